"""Which runs there are, and how they are done: on several cores, going on where they stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.learning.arms import ARMS
from benchmarks.learning.experiment import Budget, Run, perform, start_of
from benchmarks.learning.puzzles import Family
from benchmarks.learning.results import Row, curve_area, read

RATES = (3e-5, 1e-4, 2e-4)
"""Learning rates that every arm is tuned over."""
TUNING_SEED = 100


def tuned(arm: str) -> str:
    """The arm whose learning rate this arm takes."""
    return ARMS[arm].tuned_as or arm


def tuning_runs(family: Family, arms: Sequence[str], steps: int) -> list[Run]:
    """Every arm that has a rate of its own, on the grid that all of them share."""
    names = dict.fromkeys(tuned(arm) for arm in arms if ARMS[arm].algorithm is not None)
    return [Run(family, arm, TUNING_SEED, rate, steps) for arm in names for rate in RATES]


def best_rates(rows: Iterable[Row], family: Family, steps: int) -> dict[str, float]:
    """The rate with the best mean of the validation curve, by arm."""
    best: dict[str, tuple[float, float]] = {}
    for row in rows:
        if (row["family"], row["seed"], row["steps"]) == (family, TUNING_SEED, steps):
            found = (curve_area(row), row["learning_rate"])
            best[row["arm"]] = max(found, best.get(row["arm"], found))
    return {arm: rate for arm, (_, rate) in best.items()}


def main_runs(
    family: Family, arms: Sequence[str], seeds: int, steps: int, rates: dict[str, float]
) -> list[Run]:
    """Every arm on every seed; seeds outermost, so that whatever is done can be compared."""
    return [
        Run(family, arm, seed, rates.get(tuned(arm), RATES[0]), steps)  # the base has none
        for seed in range(seeds)
        for arm in arms
    ]


def work(run: Run, cache: Path) -> Row:
    """One run in a process of its own, on one core."""
    torch.set_num_threads(1)
    return perform(run, Budget(), cache, tuning=run.seed == TUNING_SEED)


def execute(runs: Sequence[Run], results: Path, cache: Path, workers: int) -> None:
    """Do what is not done yet; every result is on disk before the next one is waited for."""
    done = {row["key"] for row in read(results)} if results.exists() else set[str]()
    left = [run for run in runs if run.key not in done]
    if not left:
        return
    print(f"{len(runs) - len(left)} of {len(runs)} runs are done", flush=True)
    with (
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
        results.open("a") as file,
    ):
        # Warm starts first, one task each: two runs must not make the same one at once.
        for family in dict.fromkeys(run.family for run in left):
            pool.submit(prepare, family, cache).result()
        futures = {pool.submit(work, run, cache): run for run in left}
        for number, future in enumerate(as_completed(futures), 1):
            row = future.result()
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
            shown = 100 * row["curve"][-1]["accuracy"]
            print(f"{number}/{len(left)} {row['key']}: {shown:.1f} % in {row['seconds']:.0f} s",
                  flush=True)  # fmt: skip


def prepare(family: Family, cache: Path) -> None:
    """Make the policy that the runs of a family start from."""
    torch.set_num_threads(1)
    start_of(family, Budget(), cache)
