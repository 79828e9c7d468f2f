"""Which runs there are, and how they are done: on several cores, going on where they stopped."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean

import torch

from benchmarks.learning.arms import ARMS
from benchmarks.learning.experiment import Budget, Run, perform, start_of
from benchmarks.learning.puzzles import FAMILIES, Family
from benchmarks.learning.results import Row, curve_area, read

RATES = (3e-5, 1e-4, 2e-4)
"""Learning rates that every arm is tuned over."""
TUNING_SEEDS = (100, 101, 102)
"""One is not enough: a rate at the edge of what is stable looks best until it is not."""

TUNED: tuple[Family, ...] = ("chain",)
"""Families whose arms are tuned. In the others all arms take one rate, the highest at which
seeds of the tuned one agree: tuning costs more than half of what is tuned for."""
STEADY_RATE = 1e-4


def tuned(arm: str) -> str:
    """The arm whose learning rate this arm takes."""
    return ARMS[arm].tuned_as or arm


def tuning_runs(family: Family, arms: Sequence[str], steps: int) -> list[Run]:
    """Every arm that has a rate of its own, on the grid that all of them share; none for a
    family that is not tuned."""
    if family not in TUNED:
        return []
    names = dict.fromkeys(tuned(arm) for arm in arms if ARMS[arm].algorithm is not None)
    return [
        Run(family, arm, seed, rate, steps)
        for seed in TUNING_SEEDS
        for arm in names
        for rate in RATES
    ]


def best_rates(rows: Iterable[Row], family: Family, steps: int) -> dict[str, float]:
    """The rate with the best mean of the validation curves of all tuning seeds, by arm."""
    if family not in TUNED:
        return dict.fromkeys(ARMS, STEADY_RATE)
    areas: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if (row["family"], row["steps"]) == (family, steps) and row["seed"] in TUNING_SEEDS:
            areas[row["arm"]][row["learning_rate"]].append(curve_area(row))
    return {
        arm: max(of_rate, key=lambda rate: fmean(of_rate[rate])) for arm, of_rate in areas.items()
    }


def main_runs(
    family: Family, arms: Sequence[str], seeds: int, steps: int, rates: dict[str, float]
) -> list[Run]:
    """Every arm on every seed; seeds outermost, so that whatever is done can be compared."""
    return [
        Run(family, arm, seed, rates.get(tuned(arm), RATES[0]), steps)  # the base has none
        for seed in range(seeds)
        for arm in arms
        if arm != "grpo_same_rate" or family in TUNED  # elsewhere it is GRPO itself
    ]


def compared(rows: Iterable[Row], tuning_steps: int) -> list[Row]:
    """The runs to report: of every arm those at the rate it was tuned to."""
    rows = list(rows)
    rates = {family: best_rates(rows, family, tuning_steps) for family in FAMILIES}
    return [
        row
        for row in rows
        if row["seed"] not in TUNING_SEEDS
        and row["learning_rate"] == rates[row["family"]].get(tuned(row["arm"]), RATES[0])
    ]


def work(run: Run, cache: Path) -> Row:
    """One run in a process of its own, on one core."""
    torch.set_num_threads(1)
    return perform(run, Budget(), cache, tuning=run.seed in TUNING_SEEDS)


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
        families: dict[Family, None] = dict.fromkeys(run.family for run in left)
        for family in families:
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
