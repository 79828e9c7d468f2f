"""JSON Schemas, compiled: every draft, formats on, remote references refused unfetched."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jsonschema_rs

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
    try:
        return jsonschema_rs.validator_for(
            schema,
            validate_formats=True,
            pattern_options=_PATTERNS,
            offline=True,
        )
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise SchemaError(str(error).split("\n\n")[0]) from None


def violation(validator: jsonschema_rs.Validator, value: Any) -> Violation | None:
    """The first violation, None when the value fits."""
    if validator.is_valid(value):
        return None
    first = next(validator.iter_errors(value))
    pointer = "".join(
        "/" + str(step).replace("~", "~0").replace("/", "~1") for step in first.instance_path
    )
    return Violation(pointer, first.kind.name, first.message)
