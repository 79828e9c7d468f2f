"""Templates of graders: `{{ item.answer }}` and `{{ sample.output_json.rows[0] }}` in a text.

`item` is the row of the data set, `sample` what the model said: `output_text`, and
`output_json` when that is strict JSON. A template names a value and does nothing else; what
it inserts is not read for templates again. Syntax of OpenAI's graders.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal, cast

from verifiers import strict_json
from verifiers.extract import ExtractionError, Text, extract

MAX_JSON = 2**20
"""Characters of a text that `output_json` is read from."""
MAX_DEPTH = 50
"""How deep `output_json` may be."""

_PART = re.compile(
    r"\.(?P<name>[A-Za-z_][\w-]*)|\[(?P<index>\d{1,9})\]"
    r"|\[(?P<quote>['\"])(?P<key>[^'\"]*)(?P=quote)\]"
)
_TEMPLATE = re.compile(r"\{\{\s*(?P<space>item|sample)(?P<path>(?:[.\[][^{}]*?)?)\s*\}\}")


class TemplateError(ValueError):
    """A template that is none, or names what is not there."""


class SampleError(TemplateError):
    """The completion lacks what a template names."""


def compared(
    text: str, reference: str, item: Mapping[str, Any], completion: str
) -> tuple[str, str]:
    """A grader's text and its reference, both filled in. Raises SampleError when the completion
    lacks what they name, TemplateError when the item does."""
    try:
        sample = sample_of(extract(Text(), completion).answers[-1])
    except ExtractionError as error:
        raise SampleError(str(error)) from None
    return render(text, item, sample), render(reference, item, sample)


def sample_of(text: str) -> dict[str, Any]:
    """The `sample` namespace of what a model said."""
    sample: dict[str, Any] = {"output_text": text}
    if len(text) <= MAX_JSON:
        with suppress(strict_json.StrictJsonError):  # a text, which no template can look into
            value = strict_json.loads(text)
            if _is_shallow(value, MAX_DEPTH):
                sample["output_json"] = value
    return sample


def _is_shallow(value: strict_json.Json, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    inside = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_is_shallow(part, depth - 1) for part in inside)


def check(text: str, item: Mapping[str, Any] | None) -> None:
    """Raise TemplateError when a template is malformed or names what `item` lacks.

    Without an item only the form is checked.
    """
    for match in _TEMPLATE.finditer(text):
        steps = _steps(match)
        if match["space"] == "sample":
            if not steps or steps[0] not in ("output_text", "output_json"):
                raise TemplateError(
                    f"{match[0]} names no part of a sample; it has output_text and output_json"
                )
        elif item is not None:
            _look_up(match, item)


def uses(text: str, namespace: Literal["item", "sample"]) -> bool:
    """Whether a template of the text names something of this namespace."""
    return any(match["space"] == namespace for match in _TEMPLATE.finditer(text))


def without_item(text: str) -> str:
    """The text with a word in place of every template of the item. Raises TemplateError."""
    check(text, None)
    return _TEMPLATE.sub(lambda match: "item" if match["space"] == "item" else match[0], text)


def render(text: str, item: Mapping[str, Any], sample: Mapping[str, Any]) -> str:
    """The text with every template replaced by what it names.

    Raises SampleError when the sample lacks it, TemplateError when the item does.
    """
    return _TEMPLATE.sub(
        lambda match: written(_look_up(match, item if match["space"] == "item" else sample)), text
    )


def value_of(text: str, item: Mapping[str, Any]) -> Any:
    """What a text that is one template of the item names; the rendered text otherwise."""
    match = _TEMPLATE.fullmatch(text)
    if match is not None and match["space"] == "item":
        return _look_up(match, item)
    return render(text, item, {})


def written(value: Any) -> str:
    """A value as a template inserts it: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else strict_json.dumps(value)


def _steps(match: re.Match[str]) -> list[str | int]:
    steps: list[str | int] = []
    path, position = match["path"].rstrip(), 0
    while position < len(path):
        part = _PART.match(path, position)
        if part is None:
            raise TemplateError(
                f"{match[0]} is no template: {path[position:]!r} is no name or index"
            )
        if part["index"] is not None:
            steps.append(int(part["index"]))
        else:
            steps.append(part["key"] if part["name"] is None else part["name"])
        position = part.end()
    return steps


def _look_up(match: re.Match[str], value: Any) -> Any:
    for step in _steps(match):
        try:
            if isinstance(step, int):
                value = cast("list[Any]", value)[step] if isinstance(value, list) else None
            else:
                value = cast("dict[str, Any]", value)[step] if isinstance(value, dict) else None
        except (KeyError, IndexError):
            value = None
        if value is None:
            error = SampleError if match["space"] == "sample" else TemplateError
            raise error(f"the {match['space']} has nothing at {match[0]}")
    return value
