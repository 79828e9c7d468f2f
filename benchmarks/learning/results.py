"""From raw results to what is reported of a family: measures, intervals over seeds, tables."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learning.arms import ARMS

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over seeds with its 95 % interval (Student's t), and the number of seeds.

    One seed has no interval, and none is printed.
    """

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return format(self)

    def __format__(self, spec: str) -> str:
        """With `+`, as a difference."""
        if self.n < 2:
            return f"{self.mean:{spec}.1f}"
        return f"{self.mean:{spec}.1f} [{self.low:{spec}.1f}, {self.high:{spec}.1f}]"


def read(path: Path) -> list[Row]:
    """Every result of a JSONL file; the last one of a key counts."""
    rows: dict[str, Row] = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        rows[row["key"]] = row
    return list(rows.values())


def interval(values: Sequence[float]) -> Interval:
    """Mean and 95 % t-interval; an interval of one value is that value."""
    from scipy import stats

    array = np.asarray(values, float)
    if len(array) < 2 or array.std() == 0:
        return Interval(array.mean(), array.mean(), array.mean(), len(array))
    low, high = stats.t.interval(
        0.95, len(array) - 1, array.mean(), array.std(ddof=1) / len(array) ** 0.5
    )
    return Interval(float(array.mean()), float(low), float(high), len(array))


def by_seed(rows: Iterable[Row]) -> dict[str, dict[int, Row]]:
    """Rows of one family by arm and seed."""
    table: dict[str, dict[int, Row]] = defaultdict(dict)
    for row in rows:
        table[row["arm"]][row["seed"]] = row
    return table


def curve_area(row: Row) -> float:
    """Mean validation accuracy (percent) over the run's curve, by the trapezoid rule."""
    steps = [point["step"] for point in row["curve"]]
    accuracy = [100 * point["accuracy"] for point in row["curve"]]
    if len(steps) < 2:
        return accuracy[0]
    return float(np.trapezoid(accuracy, steps) / (steps[-1] - steps[0]))


def steps_to(row: Row, accuracy: float) -> int | None:
    """First measured step at which validation accuracy reaches `accuracy`; None if it never does."""
    return next((p["step"] for p in row["curve"] if p["accuracy"] >= accuracy), None)


def accuracy_at(row: Row, share: float) -> float:
    """Validation accuracy (percent) after this share of the run's steps."""
    last = row["curve"][-1]["step"]
    steps = [point["step"] for point in row["curve"]]
    return float(np.interp(share * last, steps, [100 * p["accuracy"] for p in row["curve"]]))


Measure = Callable[[Row], float | None]

MEASURES: dict[str, Measure] = {
    "chosen": lambda row: 100 * row["chosen"]["pass@1"],
    "final": lambda row: 100 * row["final"]["pass@1"],
    "pass@8": lambda row: 100 * row["final"]["pass@8"],
    "curve": curve_area,
    "entropy": lambda row: row["curve"][-1]["entropy"],
    "length": lambda row: row["curve"][-1]["length"],
    "refers": lambda row: 100 * row["final"]["refers"],
    "unworked": lambda row: 100 * row["final"]["unworked"],
    "unfaithful": lambda row: 100 * row["final"]["unfaithful"],
    "credit": lambda row: _mean(p["error_auc"] for p in row["curve"]),
    "weight": lambda row: _mean(p["weight_mean"] for p in row["curve"]),
    "seconds": lambda row: row["seconds"],
}


def _mean(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if found else None


def paired(
    arm: Mapping[int, Row], other: Mapping[int, Row], measure: Callable[[Row], float | None]
) -> Interval | None:
    """The arm's advantage over another on the seeds both have."""
    differences = [
        ours - theirs
        for seed in sorted(arm.keys() & other.keys())
        if (ours := measure(arm[seed])) is not None and (theirs := measure(other[seed])) is not None
    ]
    return interval(differences) if differences else None


def table(rows: Sequence[Row]) -> str:
    """Two Markdown tables of one family: how well every arm learned, and what else it did."""
    arms = by_seed(rows)
    learned = ["arm", "learning rate", "pass@1, chosen on validation", "against GRPO",
               "pass@1 at the end", "against GRPO", "mean of curve", "against GRPO",
               "steps to GRPO's end", "seeds"]  # fmt: skip
    did = ["arm", "pass@8", "entropy", "length", "refers %", "unworked %", "unfaithful %",
           "credit AUC", "mean weight"]  # fmt: skip
    first = [_line(learned), "|" + "---|" * len(learned)]
    second = [_line(did), "|" + "---|" * len(did)]
    for name in ARMS:
        seeds = arms.get(name)
        if not seeds:
            continue
        cells = [name, "" if name == "base" else f"{next(iter(seeds.values()))['learning_rate']:g}"]
        for measure in ("chosen", "final", "curve"):
            cells.append(str(_over_seeds(seeds, measure)))
            plain = name in ("grpo", "base")
            other = None if plain else paired(seeds, arms.get("grpo", {}), MEASURES[measure])
            cells.append("" if other is None else f"{other:+}")
        first.append(_line([*cells, _steps_cell(seeds, arms.get("grpo", {})), str(len(seeds))]))
        shown = [("pass@8", 1), ("entropy", 2), ("length", 1), ("refers", 1), ("unworked", 1),
                 ("unfaithful", 1), ("credit", 2), ("weight", 2)]  # fmt: skip
        found = [(_over_seeds(seeds, measure), digits) for measure, digits in shown]
        second.append(_line([name, *("" if v is None else f"{v.mean:.{n}f}" for v, n in found)]))
    return "\n".join([*first, "", *second])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _over_seeds(seeds: Mapping[int, Row], measure: str) -> Interval | None:
    values = [v for row in seeds.values() if (v := MEASURES[measure](row)) is not None]
    return interval(values) if values else None


def _steps_cell(seeds: Mapping[int, Row], grpo: Mapping[int, Row]) -> str:
    """Median step at which GRPO's last validation accuracy of the same seed is reached."""
    found = [
        steps_to(row, grpo[seed]["curve"][-1]["accuracy"])
        for seed, row in seeds.items()
        if seed in grpo
    ]
    reached = sorted(step for step in found if step is not None)
    if not reached:
        return "never"
    missing = len(found) - len(reached)
    return f"{int(np.median(reached))}" + (f" ({missing} never)" if missing else "")
