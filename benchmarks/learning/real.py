"""What was measured on the real model, as a table. Knows nothing of Ray or of tiers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.learning.results import Row, interval

ALGORITHMS = ("grpo", "rlsd")
PHASES = ("rollout", "verify", "score", "learn", "publish")


def read_real(results: Path) -> list[Row]:
    """Every row measured so far."""
    return (
        [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    )


def real_table(rows: Sequence[Row]) -> str:
    """One line an algorithm: reward, held-out accuracy, and where the seconds of a step went."""
    head = ["algorithm", "seeds", "steps", "reward, first third", "reward, last third",
            "held out before", "held out after", "mean weight", *(f"{p}, s" for p in PHASES),
            "extra forward, % of the step"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for kind in ALGORITHMS:
        steps = [row for row in rows if row["kind"] == kind and "reward" in row]
        judged = [row for row in rows if row["kind"] == kind and "held_out" in row]
        if not steps:
            continue
        last = max(row["step"] for row in steps)
        thirds = (
            [row["reward"] for row in steps if row["step"] <= last / 3],
            [row["reward"] for row in steps if row["step"] > last * 2 / 3],
        )
        weights = [row["weight_mean"] for row in steps if row["weight_mean"] is not None]
        shares = [
            100 * row["seconds"].get("score", 0.0) / sum(row["seconds"].values()) for row in steps
        ]
        before = [row["held_out"] for row in judged if row["step"] == 0]
        after = [row["held_out"] for row in judged if row["step"] == last]
        cells = [
            kind,
            str(len({row["seed"] for row in steps})),
            str(last),
            *(f"{100 * _mean(part):.1f} %" for part in thirds),
            *(f"{100 * _mean(part):.1f} %" for part in (before, after)),
            f"{_mean(weights):.3f}",
            *(f"{_mean([row['seconds'].get(p, 0.0) for row in steps]):.1f}" for p in PHASES),
            "" if kind == "grpo" else str(interval(shares)),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
