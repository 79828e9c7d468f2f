"""JSON as RFC 8259 and I-JSON mean it: what two parsers could read differently is refused.

Duplicate keys, NaN and Infinity, numbers beyond a double (1e400, 1e-400, a 400-digit integer),
lone surrogates and deep nesting are errors. Nothing is repaired.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None

MAX_DEPTH = 128
MAX_DIGITS = 308
"""Integers of more digits lie beyond the range of a double."""


class StrictJsonError(ValueError):
    """The text is not strict JSON."""


def loads(text: str, *, surrogates: bool = False) -> Json:
    """The value of a JSON text. Raises StrictJsonError, which says what is wrong and where.

    `surrogates` lets lone surrogates pass, where a text quotes what a model wrote.
    """
    text = text.strip(" \t\r\n")
    try:
        value, end = _DECODER.raw_decode(text)
        if end != len(text):
            raise json.JSONDecodeError("Extra data", text, end)
    except json.JSONDecodeError as error:
        raise StrictJsonError(f"not JSON: {error.msg} (character {error.pos})") from None
    except RecursionError:
        raise StrictJsonError(f"nested more than {MAX_DEPTH} deep") from None
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(value)
    if not surrogates and ("\\u" in text or not text.isascii()):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            code = ord(error.object[error.start])
            raise StrictJsonError(f"a lone surrogate U+{code:04X}") from None
    return value


def dumps(value: Any) -> str:
    """One line of JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def equal(left: Json, right: Json) -> bool:
    """Whether two JSON values are the same: 1 is 1.0, but never true."""
    return difference(left, right) is None


def difference(wanted: Json, found: Json, pointer: str = "") -> str | None:
    """The JSON pointer of the first place where two values differ, None when they are equal."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return _first(
            f"{pointer}/{_escape(key)}"
            if (key in wanted) != (key in found)
            else difference(wanted[key], found[key], f"{pointer}/{_escape(key)}")
            for key in [*wanted, *(key for key in found if key not in wanted)]
        )
    if isinstance(wanted, list) and isinstance(found, list):
        if len(wanted) != len(found):
            return f"{pointer}/{min(len(wanted), len(found))}"
        return _first(
            difference(left, right, f"{pointer}/{index}")
            for index, (left, right) in enumerate(zip(wanted, found, strict=True))
        )
    if isinstance(wanted, bool) or isinstance(found, bool):
        return None if wanted is found else pointer
    return None if wanted == found else pointer


def _first(differences: Iterable[str | None]) -> str | None:
    return next((place for place in differences if place is not None), None)


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise StrictJsonError(f"the key {key[:80]!r} stands twice in one object")
            seen.add(key)
    return value


def _float(literal: str) -> float:
    value = float(literal)
    if not math.isfinite(value):
        raise StrictJsonError(f"the number {literal[:40]} is beyond a double")
    if value == 0 and literal.lower().partition("e")[0].strip("-0."):  # 1e-400 is not 0
        raise StrictJsonError(f"the number {literal[:40]} is too small for a double")
    return value


def _integer(literal: str) -> int:
    if len(literal) > MAX_DIGITS:
        raise StrictJsonError(f"an integer of {len(literal)} digits")
    return int(literal)


def _constant(literal: str) -> None:
    raise StrictJsonError(f"{literal} is not JSON")


def _check_depth(value: Json) -> None:
    level: list[Json] = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Json] = []
        for item in level:
            if isinstance(item, dict):
                below += item.values()
            elif isinstance(item, list):
                below += item
        if not below:
            return
        level = below
    raise StrictJsonError(f"nested more than {MAX_DEPTH} deep")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_float=_float, parse_int=_integer, parse_constant=_constant
)
