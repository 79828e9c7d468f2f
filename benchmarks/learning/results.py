"""From raw results to one table a family, figures, and the verdict on each claim."""

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
    """A mean over seeds with its 95 % interval (Student's t), and the number of seeds."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.1f} [{self.low:.1f}, {self.high:.1f}]"


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


MEASURES: dict[str, Callable[[Row], float | None]] = {
    "chosen pass@1": lambda row: 100 * row["chosen"]["pass@1"],
    "final pass@1": lambda row: 100 * row["final"]["pass@1"],
    "pass@8": lambda row: 100 * row["final"]["pass@8"],
    "curve": curve_area,
    "entropy": lambda row: row["curve"][-1]["entropy"],
    "length": lambda row: row["curve"][-1]["length"],
    "refers %": lambda row: 100 * row["final"]["refers"],
    "unworked %": lambda row: 100 * row["final"]["unworked"],
    "unfaithful %": lambda row: 100 * row["final"]["unfaithful"],
    "credit AUC": lambda row: _mean(p["error_auc"] for p in row["curve"]),
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
    """The Markdown table of one family: every arm, its paired difference to GRPO, and diagnostics."""
    arms = by_seed(rows)
    head = ["arm", "rate", "pass@1, chosen on validation", "against GRPO", "pass@1 at the end",
            "pass@8", "mean of curve", "steps to GRPO's end", "entropy", "length",
            "refers / unworked / unfaithful, %", "credit AUC", "seeds"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name in ARMS:
        seeds = arms.get(name)
        if not seeds:
            continue
        values = {
            measure: [v for row in seeds.values() if (v := function(row)) is not None]
            for measure, function in MEASURES.items()
        }

        def mean(measure: str, digits: int = 1, values: Any = values) -> str:
            return f"{np.mean(values[measure]):.{digits}f}" if values[measure] else ""

        against = ""
        if name not in ("grpo", "base") and "grpo" in arms:
            against = str(paired(seeds, arms["grpo"], MEASURES["chosen pass@1"]) or "")
        cells = [
            name,
            f"{next(iter(seeds.values()))['learning_rate']:g}" if name != "base" else "",
            str(interval(values["chosen pass@1"])),
            against,
            mean("final pass@1"),
            mean("pass@8"),
            mean("curve"),
            _steps_cell(seeds, arms.get("grpo", {})),
            mean("entropy", 2),
            mean("length"),
            " / ".join(mean(f"{leak} %") for leak in ("refers", "unworked", "unfaithful")),
            mean("credit AUC", 2),
            str(len(seeds)),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


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


def draw(rows: Sequence[Row], path: Path) -> None:
    """Validation curves of one family, mean over seeds with the range between seeds, as PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    arms = by_seed(rows)
    names = [name for name in ARMS if name in arms and name not in ("base", "grpo_twice")]
    figure, axes = plt.subplots(3, 5, figsize=(16, 8), sharex=True, sharey=True)
    flat = list(axes.flat)
    for axis, name in zip(flat, names, strict=False):
        for shown, colour in (("grpo", "0.6"), (name, "C0")):
            steps, low, middle, high = _band(list(arms.get(shown, {}).values()))
            axis.plot(steps, middle, color=colour, label=shown)
            axis.fill_between(steps, low, high, color=colour, alpha=0.25, linewidth=0)
        axis.set_title(name, fontsize=10)
    for axis in flat[len(names) :]:
        axis.set_visible(False)
    figure.supxlabel("step")
    figure.supylabel("validation accuracy, % (grey: GRPO; band: range over seeds)")
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _band(rows: Sequence[Row]) -> tuple[list[int], Any, Any, Any]:
    if not rows:
        return [], [], [], []
    steps = [point["step"] for point in rows[0]["curve"]]
    curves = 100 * np.asarray([[point["accuracy"] for point in row["curve"]] for row in rows])
    return steps, curves.min(0), curves.mean(0), curves.max(0)
