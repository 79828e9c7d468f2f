"""Results of queries, and when two of them say the same.

A result is a bag of rows, or a list where the gold query orders; rows with equal sort keys
may come in any order, and a `LIMIT` that cuts through them may keep any. NULL equals NULL
alone, text is never a number and a boolean is neither; 1 is 1.0, and floats may differ in
the last digits, as sums do when their terms are added in another order. Pure; knows no SQL.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice, permutations, product
from typing import Any

Row = tuple[Any, ...]

RELATIVE = 1e-9
ABSOLUTE = 1e-12
MAX_PERMUTATIONS = 5_040


@dataclass(frozen=True, slots=True)
class Truth:
    """What the gold query gives on one database.

    `rows` without sort keys for a bag. With `keys`, `rows` are all rows before the limit, in
    order, each with its sort key, and [`start`, `stop`) is what the limit leaves of them.
    """

    rows: Sequence[Row]
    width: int
    keys: Sequence[Row] | None = None
    start: int = 0
    stop: int | None = None

    @property
    def size(self) -> int:
        """Rows that a right answer has."""
        stop = len(self.rows) if self.stop is None else min(self.stop, len(self.rows))
        return max(0, stop - self.start)

    @property
    def shown(self) -> Sequence[Row]:
        """One right answer."""
        return self.rows[self.start : self.start + self.size]


def plain(value: Any) -> Any:
    """A value as this module compares it: hashable, booleans and NaN apart from numbers."""
    if value is None or type(value) in (int, str, bytes):
        return value
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, float):
        return ("nan",) if math.isnan(value) else value
    if isinstance(value, Decimal):
        return ("nan",) if value.is_nan() else value
    if isinstance(value, memoryview | bytearray):
        return bytes(value)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, list | tuple):
        return ("list", *(plain(item) for item in value))  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return ("map", *((plain(k), plain(v)) for k, v in value.items()))  # pyright: ignore[reportUnknownVariableType]
    return (type(value).__name__, str(value))


def agrees(truth: Truth, rows: Sequence[Row]) -> bool:
    """Whether an answer with these rows is right."""
    if len(rows) != truth.size or (rows and len(rows[0]) != truth.width):
        return False
    if truth.keys is None:
        return same_bag(truth.shown, rows)
    if truth.shown == rows:
        return True
    for first, last in _ties(truth.keys):
        left, right = max(first, truth.start), min(last, truth.start + truth.size)
        if left >= right:
            continue
        said = rows[left - truth.start : right - truth.start]
        tied = truth.rows[first:last]
        if not (same_bag(tied, said) if len(tied) == len(said) else _within(tied, said)):
            return False
    return True


def _ties(keys: Sequence[Row]) -> Iterator[tuple[int, int]]:
    first = 0
    for position in range(1, len(keys) + 1):
        if position == len(keys) or keys[position] != keys[first]:
            yield first, position
            first = position


def same_bag(wanted: Sequence[Row], found: Sequence[Row]) -> bool:
    """Whether both have the same rows, each as often."""
    if wanted == found:
        return True
    if len(wanted) != len(found):
        return False
    if len(wanted) > 1 and Counter(wanted) == Counter(found):
        return True
    if not any(isinstance(value, float | Decimal) for row in wanted for value in row):
        return False
    return all(
        _close(left, right)
        for left, right in zip(sorted(wanted, key=_rank), sorted(found, key=_rank), strict=True)
    )


def _within(wanted: Sequence[Row], found: Sequence[Row]) -> bool:
    """Whether the rows found are some of those wanted."""
    left = Counter(tuple(map(_rounded, row)) for row in wanted)
    return not Counter(tuple(map(_rounded, row)) for row in found) - left


def _rounded(value: Any) -> Any:
    return f"{value:.9g}" if isinstance(value, float | Decimal) else value


def _rank(row: Row) -> tuple[tuple[int, Any], ...]:
    return tuple(_rank_value(value) for value in row)


def _rank_value(value: Any) -> tuple[int, Any]:
    if value is None:
        return 0, 0
    if isinstance(value, int | float | Decimal):
        return 1, float(f"{float(value):.9g}") if abs(value) < 1e300 else float("inf")
    if isinstance(value, str):
        return 2, value
    if isinstance(value, bytes):
        return 3, value
    return 4, repr(value)


def _close(wanted: Row, found: Row) -> bool:
    return len(wanted) == len(found) and all(map(same_value, wanted, found))


def same_value(wanted: Any, found: Any) -> bool:
    """Whether two values are the same, floats to nine digits."""
    if wanted == found:
        return True
    if not all(isinstance(value, int | float | Decimal) for value in (wanted, found)):
        return False
    try:
        return math.isclose(wanted, found, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    except OverflowError:
        return False


def column_orders(truth: Truth, rows: Sequence[Row]) -> Iterator[tuple[int, ...]]:
    """Ways to reorder the answer's columns so that each has the values of the gold's.

    At most MAX_PERMUTATIONS; the order as it stands comes first when it is one of them.
    """
    width = truth.width
    if not rows or len(rows[0]) != width:
        yield tuple(range(width))
        return
    if truth.size != len(rows):
        return
    if truth.keys is not None and truth.size != len(truth.rows):  # a cut may show other rows
        yield from islice(permutations(range(width)), MAX_PERMUTATIONS)
        return
    wanted = [_column(truth.shown, index) for index in range(width)]
    found = [_column(rows, index) for index in range(width)]
    choices = [
        [index for index in range(width) if same_bag(column, found[index])] for column in wanted
    ]
    orders = (order for order in product(*choices) if len(set(order)) == width)
    yield from islice(orders, MAX_PERMUTATIONS)


def _column(rows: Sequence[Row], index: int) -> list[Row]:
    return [(row[index],) for row in rows]


def reorder(rows: Iterable[Row], order: Sequence[int]) -> list[Row]:
    """The rows with their columns in this order."""
    return [tuple(row[index] for index in order) for row in rows]


def first_difference(truth: Truth, rows: Sequence[Row]) -> tuple[int, Row | None, Row | None]:
    """Position, wanted row and found row of the first difference; None where a side ends."""
    wanted, found = list(truth.shown), list(rows)
    if truth.keys is None:
        extra, missing = Counter(found) - Counter(wanted), Counter(wanted) - Counter(found)
        return (
            next((n for n, row in enumerate(found) if row in extra), len(found)),
            next(iter(missing), None),
            next(iter(extra), None),
        )
    for position, (left, right) in enumerate(zip(wanted, found, strict=False)):
        if not _close(left, right):
            return position, left, right
    shorter = min(len(wanted), len(found))
    return (
        shorter,
        wanted[shorter] if shorter < len(wanted) else None,
        found[shorter] if shorter < len(found) else None,
    )


def soft_f1(truth: Truth, rows: Sequence[Row]) -> float:
    """F1 over cells: rows are paired in order, and cells of a pair count wherever they stand.

    Source: BIRD mini-dev's soft F1, with rows sorted first so that order means nothing.
    """
    wanted, found = sorted(truth.shown, key=_rank), sorted(rows, key=_rank)
    if not wanted and not found:
        return 1.0
    shared = list((Counter(wanted) & Counter(found)).elements())
    spare = Counter(shared)
    matched = float(sum(map(len, shared)))
    rest_wanted, rest_found = _without(wanted, spare), _without(found, spare)
    for left, right in zip(rest_wanted, rest_found, strict=False):
        matched += sum((Counter(left) & Counter(right)).values())
    cells = sum(map(len, wanted)) + sum(map(len, found))
    return 2 * matched / cells if cells else 0.0


def _without(rows: Sequence[Row], spare: Counter[Row]) -> list[Row]:
    left = Counter(spare)
    rest: list[Row] = []
    for row in rows:
        if left[row] > 0:
            left[row] -= 1
        else:
            rest.append(row)
    return rest
