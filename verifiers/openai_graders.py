"""OpenAI's grader objects as verifier specs.

    {"type": "string_check" | "text_similarity" | "python" | "score_model" | "label_model"
     | "multi", "name": ..., ...}                                                         theirs
    {"type": "math" | "code" | "choice" | ..., "name": ..., "answer": "{{item.answer}}"}  ours
    {"kind": "math", ...}                                   a verifier spec, taken as it stands

A grader is one for a whole data set; with a row, the `item`, it becomes the spec of a task.
In a grader of ours the templates of the item are filled here: a text or a number goes in as
text, but where the field holds any JSON value it is the value itself, as are lists and
objects everywhere. Pure; knows no judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast, get_args

from verifiers import templates
from verifiers.model_specs import ModelSpec
from verifiers.spec import KINDS, AnySpec, SpecError, parse_spec, plain

THEIRS = ("string_check", "text_similarity", "python", "score_model", "label_model", "multi")
_ASKED = ("input", "model", "sampling_params", "deadline_s", "retries")
_ANY_JSON = frozenset(("expected", "expect", "args", "kwargs", "item", "schema"))
_FIELDS: Mapping[str, frozenset[str]] = {
    "string_check": frozenset(("input", "reference", "operation")),
    "text_similarity": frozenset(("input", "reference", "evaluation_metric", "pass_threshold")),
    "python": frozenset(("source", "image_tag", "pass_threshold")),
    "score_model": frozenset((*_ASKED, "range", "pass_threshold")),
    "label_model": frozenset((*_ASKED, "labels", "passing_labels")),
    "multi": frozenset(("graders", "calculate_output", "pass_threshold")),
}
_TYPES = (*THEIRS, *(kind for kind in KINDS if kind not in THEIRS))

Grader = Mapping[str, Any]


def spec_of(grader: Grader, item: Mapping[str, Any]) -> AnySpec:
    """The spec by which this row's completions are judged.

    Raises SpecError, which names the field, also for a template that the row cannot fill.
    """
    return parse_spec(_data(grader, item))


def check_grader(grader: Grader) -> None:
    """Raise SpecError for what is wrong with a grader whatever the row."""
    parse_spec(_data(grader, None))


def asks_a_model(grader: Grader) -> bool:
    """Whether it, or one inside, asks a model. Raises SpecError for one that cannot be used."""
    return any(isinstance(leaf, ModelSpec) for leaf in plain(parse_spec(_data(grader, None))))


def name_of(grader: Grader) -> str:
    """What the grader is called."""
    return str(grader.get("name") or grader.get("type") or grader.get("kind"))


def type_of(grader: Grader) -> str:
    """Its type, or the kind of the spec that it is."""
    return str(grader.get("type") or grader.get("kind"))


def _type(grader: Grader) -> str | None:
    """The grader's type; None for a spec. Raises SpecError for one that cannot be used."""
    if ("type" in grader) == ("kind" in grader):
        raise SpecError("grader: give a `type`, or a `kind` for a verifier spec")
    if "kind" in grader:
        return None
    name = grader["type"]
    if not isinstance(name, str) or name not in _TYPES:
        raise SpecError(f"type: {name!r} is no grader; the types are {', '.join(_TYPES)}")
    return name


def _data(grader: Grader, item: Mapping[str, Any] | None) -> dict[str, Any]:
    """The spec as plain data; without an item, one that has the grader's mistakes."""
    name = _type(grader)
    if name is None:
        return dict(grader)
    data = {field: value for field, value in grader.items() if field not in ("type", "name")}
    try:
        if name not in THEIRS:
            return _ours(name, data, item)
        return _theirs(name, data, item)
    except templates.TemplateError as error:
        raise SpecError(f"{name} grader: {error}") from None


def _ours(kind: str, data: Mapping[str, Any], item: Mapping[str, Any] | None) -> dict[str, Any]:
    if item is not None:
        return {"kind": kind, **_filled(data, item, "")}
    if unknown := sorted(set(data) - _fields_of(kind)):
        raise SpecError(f"{kind} grader: {unknown[0]}: is no field of this type")
    used = [text for text in _texts(data) if templates.uses(text, "item")]
    for text in used:
        templates.check(text, None)
    _filled({k: v for k, v in data.items() if not any(t in used for t in _texts(v))}, {}, "")
    return {"kind": "text", "answer": "of a row"} if used else {"kind": kind, **data}


def _fields_of(kind: str) -> set[str]:
    (model,) = (of for of in get_args(AnySpec) if of.model_fields["kind"].default == kind)
    return {field.alias or name for name, field in model.model_fields.items()} - {"kind"}


def _theirs(name: str, data: dict[str, Any], item: Mapping[str, Any] | None) -> dict[str, Any]:
    if unknown := sorted(set(data) - _FIELDS[name]):
        raise SpecError(f"{name} grader: {unknown[0]}: is no field of this type")
    if data.get("evaluation_metric") == "cosine":
        raise SpecError(
            f"{name} grader: evaluation_metric: cosine compares embeddings, and there is no model "
            "of them here (OpenAI has it for evals alone, too): take fuzzy_match, bleu, gleu, "
            "meteor, rouge_1 to rouge_5 or rouge_l, a score_model grader, or a `remote` grader "
            "that compares yours"
        )
    if name == "multi":
        parts = _named(data.get("graders"))
        return {
            **data,
            "kind": name,
            "graders": {key: _data(part, item) for key, part in parts.items()},
        }
    data.pop("image_tag", None)  # which of OpenAI's sandbox images: here there is one
    if item is None:
        for field in {"input", "reference"} & set(data):
            data[field] = _without_item(data[field])
    return {**data, "kind": name, "item": dict(item or {})}


def _without_item(value: Any) -> Any:
    """The value with a word in place of every template of the item."""
    if isinstance(value, str):
        return templates.without_item(value)
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        return {key: _without_item(part) for key, part in fields.items()}
    if isinstance(value, list):
        return [_without_item(part) for part in cast("list[Any]", value)]
    return value


def _named(graders: Any) -> dict[str, Grader]:
    """The graders of a `multi`, by name: an object of them, a list, or a single one."""
    if isinstance(graders, Mapping):
        one = cast("Mapping[str, Any]", graders)
        if not isinstance(one.get("type"), str):
            by_name: dict[str, Any] = dict(one)
        else:
            by_name = {name_of(one): one}
    elif isinstance(graders, list):
        parts = cast("list[Any]", graders)
        by_name = {name_of(part): part for part in parts if isinstance(part, dict)}  # pyright: ignore[reportUnknownArgumentType]
        if len(by_name) < len(parts):
            raise SpecError("multi grader: graders: each needs a name of its own")
    else:
        raise SpecError("multi grader: graders: must be an object of graders by name")
    for name, part in by_name.items():
        if not isinstance(part, Mapping):
            raise SpecError(f"multi grader: graders.{name}: must be a grader")
    return by_name


def _filled(value: Any, item: Mapping[str, Any], field: str) -> Any:
    """The value with every template of the item filled."""
    if isinstance(value, str):
        if templates.uses(value, "sample"):
            raise templates.TemplateError(
                f"{field}: {value[:80]!r}: only OpenAI's types look at the sample by "
                "template; this type finds the answer by `extract`"
            )
        found: Any = templates.value_of(value, item)
        if field in _ANY_JSON or isinstance(found, dict | list):
            return cast("Any", found)
        return templates.written(found)
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        return {
            key: _filled(part, item, field if field in _ANY_JSON else key)
            for key, part in fields.items()
        }
    if isinstance(value, list):
        return [_filled(part, item, field) for part in cast("list[Any]", value)]
    return value


def _texts(value: Any) -> list[str]:
    """Every text inside a value."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = list(cast("Mapping[str, Any]", value).values())
    if isinstance(value, list):
        return [text for part in cast("list[Any]", value) for text in _texts(part)]
    return []
