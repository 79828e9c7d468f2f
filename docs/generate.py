"""The reference pages, out of the code: settings, job spec, REST.

    python docs/generate.py          write docs/reference/settings.md and job.md
    mkdocs build                     takes this file as a hook, which adds rest.md

The page of REST is made when the site is built, and lies in no commit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

REFERENCE = Path(__file__).parent / "reference"
Schema = Mapping[str, Any]

ELSEWHERE = {
    "STROP_CACHE": ("`~/.cache/strop`", "Folder of the converted demo model."),
    "STROP_GRADER_SECRET_<NAME>": (
        "",
        "Key with which requests to the remote grader `secret: <name>` are signed. Of whoever "
        "runs the verifiers.",
    ),
    "STROP_GRADER_ALLOW": (
        "",
        "Networks in which a remote grader may be private and speak http, as "
        "`10.0.0.0/8,127.0.0.1`. Of whoever runs the verifiers.",
    ),
    "STROP_GRADER_MODEL_URL": (
        "",
        "OpenAI-compatible endpoint, as `https://models.example/v1`, whose models `score_model` and "
        "`label_model` graders ask; they are refused when absent. It may be this service itself. Of "
        "the API and of whoever runs the verifiers.",
    ),
    "STROP_GRADER_MODEL_KEY": (
        "",
        "Its bearer token; one of this service needs the scope `models:infer`.",
    ),
    "STROP_WEBHOOK_ALLOW": (
        "",
        "The same for webhooks. Of the API and the dispatchers.",
    ),
    "STROP_SQL_<NAME>": (
        "",
        "Connection string of a PostgreSQL that a task names as `$STROP_SQL_<NAME>`. Of whoever "
        "runs the verifiers.",
    ),
}
"""Variables that are read where they are needed, not by the settings."""


def settings_page() -> str:
    """Every environment variable, in a table."""
    from services.settings import Settings

    schema = Settings.model_json_schema()["properties"]
    rows = [
        (f"`STROP_{name.upper()}`", _default(name, field), _of(schema[name]), _text(schema[name]))
        for name, field in Settings.model_fields.items()
    ]
    rows += [(f"`{name}`", default, "", text) for name, (default, text) in ELSEWHERE.items()]
    return "\n".join(
        [
            "# Settings",
            "",
            "<!-- Made by `python docs/generate.py`; do not edit. -->",
            "",
            "What an operator sets, by environment variables alone, on a laptop as in a cluster: API,",
            "dispatcher and CLI read the same class, `services/settings.py`. Lists are separated by commas.",
            "",
            *_table(("variable", "default", "type", "meaning"), rows),
            "",
        ]
    )


def job_page() -> str:
    """Every field of a job, a section for each part."""
    from services.config import JobSpec

    schema = JobSpec.model_json_schema()
    parts: Mapping[str, Schema] = schema["$defs"]
    lines = [
        "# Job",
        "",
        "<!-- Made by `python docs/generate.py`; do not edit. -->",
        "",
        "A job file is YAML or JSON with these fields; `strop config JOB.YAML` prints one with every",
        "default in its place, and `strop config --schema` the JSON Schema. A field that is not here",
        "is refused.",
        "",
        *_object(schema),
    ]
    for name, part in sorted(parts.items()):
        if "properties" in part:
            lines += ["", f"## {name}", "", _text(part), "", *_object(part)]
    return "\n".join([*lines, ""])


def rest_page(openapi: Schema) -> str:
    """Every route and every object, by tag."""
    lines = [
        "# REST",
        "",
        "Every route but `/healthz` and `/readyz` wants `Authorization: Bearer <API key>`. The schema",
        "itself is served at `/openapi.json`. An error is `application/problem+json` with OpenAI's",
        "`error` object in it.",
    ]
    for tag, operations in _by_tag(openapi).items():
        lines += ["", f"## {tag}"]
        for method, path, operation in operations:
            lines += ["", f"### `{method.upper()} {path}`", "", f"**{operation['summary']}.**"]
            lines += [_text(operation), ""]
            if parameters := operation.get("parameters"):
                rows = [(f"`{p['name']}`", p["in"], _of(p["schema"]), _text(p)) for p in parameters]
                lines += [*_table(("parameter", "in", "type", "meaning"), rows), ""]
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                lines += [f"Body (`{kind}`): {_of(content.get('schema', {}))}", ""]
            for status, response in operation["responses"].items():
                if status.startswith("2"):
                    answers = [
                        f"{_of(content.get('schema', {}))} (`{kind}`)"
                        for kind, content in response.get("content", {}).items()
                    ]
                    lines.append(f"Answer {status}: {', '.join(answers) or 'nothing'}")
    lines += ["", "## Objects"]
    for name, part in sorted(openapi["components"]["schemas"].items()):
        lines += ["", f"### {name}", "", _text(part), "", *_object(part)]
    return "\n".join([*lines, ""])


def _by_tag(openapi: Schema) -> dict[str, list[tuple[str, str, Schema]]]:
    tags: dict[str, list[tuple[str, str, Schema]]] = {}
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            tag = (operation.get("tags") or ["Other"])[0]
            tags.setdefault(tag, []).append((method, path, operation))
    return tags


def _default(name: str, field: FieldInfo) -> str:
    if name == "home":
        return "`~/.local/share/strop`"  # what stands there is of the machine that made the page
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, tuple):
        return f"`{','.join(map(str, value))}`" if value else ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _object(part: Schema) -> list[str]:
    if "properties" not in part:
        return [_of(part)]
    required = part.get("required", ())
    rows = [
        (
            f"`{name}`",
            "required" if name in required else _value(field.get("default")),
            _of(field),
            _text(field),
        )
        for name, field in part["properties"].items()
    ]
    return _table(("field", "default", "type", "meaning"), rows)


def _value(value: Any) -> str:
    if value is None or (isinstance(value, (dict, list)) and not value):
        return ""
    return f"`{json.dumps(value)}`"


_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
}


def _of(schema: Schema) -> str:
    """A type in words; one that has a section is a link to it."""
    if reference := schema.get("$ref"):
        name = reference.rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if options := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        kinds = [_of(option) for option in options if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_of(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map of {_of(schema['additionalProperties'])}"
    bounds = [text.format(schema[key]) for key, text in _BOUNDS.items() if key in schema]
    return ", ".join([kind, *bounds])


def _text(part: Schema) -> str:
    words = " ".join(str(part.get("description", "")).split())
    # Within backticks Markdown takes every character as it is, elsewhere `<` begins a tag.
    return "`".join(
        piece if inside % 2 else piece.replace("<", "&lt;")
        for inside, piece in enumerate(words.split("`"))
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    def line(cells: tuple[str, ...]) -> str:
        return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"

    return [line(head), f"|{'---|' * len(head)}", *map(line, rows)]


def pages() -> Iterator[tuple[Path, str]]:
    """The pages that are committed."""
    yield REFERENCE / "settings.md", settings_page()
    yield REFERENCE / "job.md", job_page()


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Hook of mkdocs: the page of REST, of the application as it is."""
    from mkdocs.structure.files import File

    from services.api.app import create_app
    from services.settings import Settings

    text = rest_page(create_app(Settings()).openapi())
    files.append(File.generated(config, "reference/rest.md", content=text))
    return files


if __name__ == "__main__":
    REFERENCE.mkdir(exist_ok=True)
    for path, text in pages():
        path.write_text(text, encoding="utf-8")
