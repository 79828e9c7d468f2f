"""JSON Schemas, compiled: every draft, formats on, remote references refused unfetched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast
from urllib.parse import unquote

import jsonschema_rs

_IN_PLACE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else")
"""Keywords whose schemas see the same value again."""
_PATTERNS = jsonschema_rs.FancyRegexOptions(backtrack_limit=100_000)


class SchemaError(ValueError):
    """A schema that does not compile."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Where a JSON value breaks its schema: a JSON pointer, the keyword and a message."""

    pointer: str
    keyword: str
    message: str


@lru_cache(maxsize=1024)
def compile_schema(schema: str) -> jsonschema_rs.Validator:
    """A validator of a schema given as JSON text. Raises SchemaError."""
    _refuse_loops(json.loads(schema))
    try:
        return jsonschema_rs.validator_for(
            schema,
            validate_formats=True,
            pattern_options=_PATTERNS,
            offline=True,
        )
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise SchemaError(str(error).split("\n\n")[0]) from None


def _refuse_loops(schema: Any) -> None:
    """Refuse a `$ref` that leads back to itself without going into the value: such a schema says
    nothing, and a validator that notices the loop lets everything pass."""
    done: set[int] = set()
    for start in _objects(schema):
        path: dict[int, str] = {}
        stack = [(start, "", False)]
        while stack:
            node, reference, left = stack.pop()
            if left:
                path.pop(id(node))
                done.add(id(node))
            elif id(node) in path:
                raise SchemaError(f"the reference {reference!r} leads back to itself")
            elif id(node) not in done:
                path[id(node)] = reference
                stack.append((node, reference, True))
                stack += [(next_, via or reference, False) for next_, via in _seen(node, schema)]


def _objects(schema: Any) -> Iterator[dict[str, Any]]:
    left = [schema]
    while left:
        item: Any = left.pop()
        if isinstance(item, dict):
            yield cast("dict[str, Any]", item)
            left += cast("dict[str, Any]", item).values()
        elif isinstance(item, list):
            left += cast("list[Any]", item)


def _seen(node: dict[str, Any], schema: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """The schemas that see the value which `node` sees, and the reference that leads there."""
    reference = node.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        target = _at(schema, reference[1:])
        if isinstance(target, dict):
            yield cast("dict[str, Any]", target), reference
    for keyword in _IN_PLACE:
        inner: Any = node.get(keyword)
        for each in cast("list[Any]", inner) if isinstance(inner, list) else [inner]:
            if isinstance(each, dict):
                yield cast("dict[str, Any]", each), ""


def _at(schema: Any, pointer: str) -> Any:
    """What a JSON pointer points to; None where it points nowhere, or is the name of an anchor."""
    place: Any = schema
    for step in unquote(pointer).split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        try:
            place = cast("list[Any]", place)[int(step)] if isinstance(place, list) else place[step]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return place if pointer == "" or pointer.startswith("/") else None


def violation(validator: jsonschema_rs.Validator, value: Any) -> Violation | None:
    """The first violation, None when the value fits."""
    if validator.is_valid(value):
        return None
    first = next(validator.iter_errors(value))
    pointer = "".join(
        "/" + str(step).replace("~", "~0").replace("/", "~1") for step in first.instance_path
    )
    return Violation(pointer, first.kind.name, first.message)
