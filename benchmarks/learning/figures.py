"""The learning curves of a family as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from benchmarks.learning.arms import ARMS
from benchmarks.learning.results import Row, by_seed

mpl.use("Agg")
from matplotlib import pyplot as plt

LEAKING = ("opsd", "grpo_opsd", "sdpo", "rlsd", "grpo")


def draw(rows: Sequence[Row], path: Path) -> None:
    """Validation accuracy of every arm over GRPO's, and how often completions refer to the hint;
    means over seeds with the range between seeds."""
    arms = by_seed(rows)
    names = [name for name in ARMS if name in arms and name not in ("base", "grpo_twice")]
    figure, axes = plt.subplots(4, 4, figsize=(15, 11), sharex=True)
    flat = list(axes.flat)
    for axis, name in zip(flat, names, strict=False):
        for shown, colour in (("grpo", "0.6"), (name, "C0")):
            steps, low, middle, high = _band(list(arms.get(shown, {}).values()), "accuracy")
            axis.plot(steps, middle, color=colour)
            axis.fill_between(steps, low, high, color=colour, alpha=0.25, linewidth=0)
        axis.set_title(name, fontsize=10)
        axis.set_ylim(0, 100)
    last = flat[len(names)]
    for name in LEAKING:
        steps, _, middle, _ = _band(list(arms.get(name, {}).values()), "refers")
        last.plot(steps, middle, label=name)
    last.set_title("refers to the hint, %", fontsize=10)
    last.legend(fontsize=8)
    for axis in flat[len(names) + 1 :]:
        axis.set_visible(False)
    figure.supxlabel("step")
    figure.supylabel("validation accuracy, % (grey: GRPO; band: range over seeds)")
    figure.tight_layout()
    figure.savefig(path, dpi=90, metadata={"Software": None})
    plt.close(figure)


def _band(rows: Sequence[Row], what: str) -> tuple[list[int], Any, Any, Any]:
    if not rows:
        return [], [], [], []
    steps = [point["step"] for point in rows[0]["curve"]]
    curves = 100 * np.asarray([[point[what] for point in row["curve"]] for row in rows])
    return steps, curves.min(0), curves.mean(0), curves.max(0)
