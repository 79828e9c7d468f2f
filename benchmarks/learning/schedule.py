"""Which runs there are, and how they are done: on several cores, going on where they stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.learning.experiment import Budget, Run, perform, start_of
from benchmarks.learning.puzzles import Family
from benchmarks.learning.results import Row, read

RATE = 1e-4
"""Of every arm: the highest of the grid at which seeds agree."""
GRID = (3e-5, 1e-4, 2e-4)
GRID_ARMS = ("grpo", "dapo", "opsd", "grpo_opsd", "sdpo", "rlsd")
GRID_FAMILY: Family = "chain"
GRID_SEEDS = (100, 101, 102)
"""One is not enough: a rate at the edge of what is stable looks best until it is not."""


def grid_runs(family: Family, steps: int) -> list[Run]:
    """Every algorithm at every rate on seeds of their own; of one family, for its cost."""
    if family != GRID_FAMILY:
        return []
    return [
        Run(family, arm, seed, rate, steps)
        for seed in GRID_SEEDS
        for arm in GRID_ARMS
        for rate in GRID
    ]


def main_runs(family: Family, arms: Sequence[str], seeds: int, steps: int) -> list[Run]:
    """Every arm on every seed; seeds outermost, so that whatever is done can be compared."""
    return [Run(family, arm, seed, RATE, steps) for seed in range(seeds) for arm in arms]


def compared(rows: Iterable[Row]) -> list[Row]:
    """The runs to compare: those of the main plan."""
    return [row for row in rows if row["seed"] not in GRID_SEEDS and row["learning_rate"] == RATE]


def work(run: Run, cache: Path) -> Row:
    """One run in a process of its own, on one core."""
    torch.set_num_threads(1)
    return perform(run, Budget(), cache, validated_only=run.seed in GRID_SEEDS)


def strangers(rows: Iterable[Row], family: Family, start: Mapping[str, Any]) -> list[Row]:
    """The runs of a family that began from another policy, and so compare with no new one.

    A warm start made on another machine is another policy: its floating point rounds otherwise.
    """
    return [row for row in rows if row["family"] == family and row["start"] != start]


def execute(runs: Sequence[Run], results: Path, cache: Path, workers: int) -> None:
    """Do what is not done yet; every result is on disk before the next one is waited for.

    Raises SystemExit when what is done began from another start than `cache` has now.
    """
    before = read(results) if results.exists() else []
    done = {row["key"] for row in before}
    left = [run for run in runs if run.key not in done]
    if not left:
        return
    print(f"{len(runs) - len(left)} of {len(runs)} runs are done", flush=True)
    with (
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
        results.open("a") as file,
    ):
        # Warm starts first, one task each: two runs must not make the same one at once.
        families: dict[Family, None] = dict.fromkeys(run.family for run in left)
        for family in families:
            start = pool.submit(prepare, family, cache).result()
            if others := strangers(before, family, start):
                raise SystemExit(
                    f"{results}: {len(others)} runs of {family} began from {others[0]['start']}, not "
                    f"from {start} as in {cache}: remove these lines, or name another file by "
                    "--results"
                )
        futures = {pool.submit(work, run, cache): run for run in left}
        for number, future in enumerate(as_completed(futures), 1):
            row = future.result()
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
            shown = 100 * row["curve"][-1]["accuracy"]
            print(f"{number}/{len(left)} {row['key']}: {shown:.1f} % in {row['seconds']:.0f} s",
                  flush=True)  # fmt: skip


def prepare(family: Family, cache: Path) -> dict[str, Any]:
    """Make the policy that the runs of a family start from; what it reached."""
    torch.set_num_threads(1)
    return start_of(family, Budget(), cache)[1]
