"""What a piece of work costs: CPU of this process and all it started, in interleaved rounds.

Contestants take turns, so that a slow moment of the machine hits all of them; a figure is
the median of the rounds.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

ROUNDS = 5
_TICK = os.sysconf("SC_CLK_TCK")

Step = Callable[[], None]
"""One verdict."""
Meter = Callable[[float], tuple[int, float]]
"""Work for about this many CPU seconds: (verdicts, CPU seconds)."""


def tree_cpu() -> float:
    """CPU seconds of this process, its living descendants, and all that they reaped."""
    reaped = os.times()
    return (
        time.process_time()
        + reaped.children_user
        + reaped.children_system
        + sum(map(_cpu, _descendants(os.getpid())))
    )


def meter(step: Step) -> Meter:
    """Counts verdicts and the CPU of the whole process tree."""

    def measure(seconds: float) -> tuple[int, float]:
        step()
        count, started = 0, tree_cpu()
        while (spent := tree_cpu() - started) < seconds:
            for _ in range(max(1, min(200, count // 4))):
                step()
                count += 1
        return count, spent

    return measure


def cpu_ms(contestants: Mapping[str, Meter], seconds: float) -> dict[str, float]:
    """CPU-ms a verdict of each contestant, `seconds` of CPU each, all told."""
    rounds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, measure in contestants.items():
            count, spent = measure(seconds / ROUNDS)
            rounds[name].append(spent / count * 1e3)
    return {name: statistics.median(costs) for name, costs in rounds.items()}


def _descendants(pid: int) -> Iterator[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return
    for task in tasks:
        try:
            children = [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
        for child in children:
            yield child
            yield from _descendants(child)


def _cpu(pid: int) -> float:
    """CPU seconds of a process and of the children that it reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICK
