"""Values that tell queries apart: those that a predicate names, and their neighbours.

Numbers a step away, the day before and after, texts that a pattern just does not match:
each cast to the type of the column that it is for, as its sample values or its declaration
say. Pure; knows no tables.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

MAX_LENGTH = 400
"""Of texts made because the gold may compare a length."""


def neighbours(
    values: Sequence[Any], patterns: Sequence[str], sample: Sequence[Any], declared: str
) -> list[Any]:
    """The values that predicates name, and those beside them, in the type of the column."""
    present = [value for value in sample if value is not None][:50]
    texts = [value for value in present if isinstance(value, str) and value]
    found: list[Any] = []
    for value in values:
        if isinstance(value, int | float):
            step = 1 if isinstance(value, int) else 10.0 ** -_places(value)
            found += [value, value - step, value + step, value + 1, value // 2, value * 2]
            found += [value - 0.5, value + 0.5]  # dropped where only integers fit
            if texts and value == int(value) and 0 < value <= MAX_LENGTH:  # a length, perhaps
                lengths = range(max(1, int(value) - 1), int(value) + 4)
                found += [(text * (size // len(text) + 1))[:size]
                          for text, size in zip(texts, lengths, strict=False)]  # fmt: skip
        else:
            found += _texts_near(value, present)
    for pattern in patterns:
        found += _texts_like(pattern)
    return list(dict.fromkeys(cast_all(found, present, declared)))


def cast_all(values: Iterable[Any], sample: Sequence[Any], declared: str) -> list[Any]:
    present = [value for value in sample if value is not None][:50]
    kind = _kind(present, declared)
    cast = (_cast(value, kind, present) for value in values)
    return [value for value in cast if value is not None]


def _places(value: float) -> int:
    text = repr(value)
    return len(text.partition(".")[2]) if "e" not in text else 2


_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)")


def _texts_near(value: str, present: Sequence[Any]) -> list[str]:
    found = [value, value.upper(), value.lower(), f"{value}a", value[:-1], f" {value}"]
    dates = [text for text in present if isinstance(text, str | dt.date) and _DATE.match(str(text))]
    if match := _DATE.match(value):
        try:
            day = dt.date(int(match[1]), int(match[2]), int(match[3]))
        except ValueError:
            return found
        tails = {str(text)[10:] for text in dates[:3]} | {value[10:]}
        near = [day + dt.timedelta(days) for days in (-1, 0, 1, 31, -366) if day.year > 2]
        return [f"{date}{tail}" for date in near for tail in sorted(tails)]
    if dates and value.isdigit() and len(value) == 4:
        years = [f"{int(value) + step:04d}" for step in (-1, 0, 1)]
        return [year + str(text)[4:] for text in dates[:6] for year in years]
    if dates and value.isdigit() and len(value) == 2:
        return [str(text)[:5] + value + str(text)[7:] for text in dates[:6]]
    if re.fullmatch(r"\d{4}-\d\d", value):
        return [value + str(text)[7:] for text in dates[:6]]
    if present and all(isinstance(text, str) for text in present):
        longer = [text for text in present if len(text) > len(value)][:3]
        found += [value + text[len(value) :] for text in longer]
    return found


def _texts_like(pattern: str) -> list[str]:
    """Texts that a LIKE or GLOB pattern matches, and texts that it just does not."""
    core = pattern.replace("*", "%").replace("?", "_").replace("_", "q")
    pieces = [piece for piece in core.split("%") if piece]
    joined = "".join(pieces)
    full = core.replace("%", "")
    found = [full, core.replace("%", "Zz"), joined.upper(), joined.lower(), joined[:-1], joined[1:]]
    return [*found, f"Zz{joined}", f"{joined}Zz", f"Zz{joined}Zz", *pieces]


def _kind(present: Sequence[Any], declared: str) -> str:
    for kind, types in (
        ("integer", (int,)),
        ("decimal", (Decimal,)),
        ("number", (int, float)),
        ("text", (str,)),
        ("datetime", (dt.datetime,)),
        ("date", (dt.date,)),
    ):
        if present and all(isinstance(v, types) and not isinstance(v, bool) for v in present):
            return kind
    if present:
        return "other"
    name = declared.upper()
    if name.endswith("]") or name.startswith(("STRUCT", "MAP", "UNION")):
        return "other"
    if "INT" in name:
        return "integer"
    if "TIMESTAMP" in name:
        return "datetime"
    if name == "DATE":
        return "date"
    if any(part in name for part in ("NUM", "DEC")):
        return "decimal"
    if any(part in name for part in ("REAL", "FLOA", "DOUB")):
        return "number"
    return "text" if any(p in name for p in ("CHAR", "TEXT", "CLOB", "DATE")) else "other"


def _cast(value: Any, kind: str, present: Sequence[Any]) -> Any:
    try:
        match kind:
            case "integer":
                number = float(value)
                return int(number) if number.is_integer() else None
            case "decimal":
                return Decimal(str(value))
            case "number":
                return float(value) if isinstance(value, str) else value
            case "text":
                return str(value) if isinstance(value, str) or present else None
            case "datetime":
                return dt.datetime.fromisoformat(value)
            case "date":
                return dt.date.fromisoformat(value[:10])
            case _:
                return None
    except (ValueError, TypeError, ArithmeticError):
        return None


def invented(declared: str, known: Sequence[Any]) -> list[Any]:
    """Values for a column of which too few are known."""
    kind = _kind(list(known), declared)
    day = dt.datetime(2020, 1, 1)
    match kind:
        case "integer":
            return [0, 1, 2, 3, 5, 10, 11, 20, 50, 99, 100, 1000]
        case "number":
            return [0.0, 0.5, 1.0, 1.5, 2.0, 3.25, 9.99, 10.0, 20.0, 50.5, 100.0, 1000.0]
        case "decimal":
            return [Decimal(text) for text in ("0", "0.5", "1", "1.5", "2", "9.99", "10", "100")]
        case "datetime":
            return [day + dt.timedelta(days=97 * n, hours=n) for n in range(12)]
        case "date":
            return [(day + dt.timedelta(days=97 * n)).date() for n in range(12)]
        case "text":
            return ["", "a", "A", "b", "ab", "abc", "Alpha", "Beta", "Gamma", "x y", "zeta", "1"]
        case _:
            return list(known)
