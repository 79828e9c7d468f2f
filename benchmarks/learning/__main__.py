"""Run the comparison, or write its tables and figures from what was measured.

    python -m benchmarks.learning run [--families chain search parity] [--seeds 5] [--workers 2]
    python -m benchmarks.learning report

`run` first tunes the learning rate of every arm on a seed of its own, over the same grid for
all, then runs every arm on every seed. Each result is one line of results.jsonl as soon as it
is there; what stands in the file is not run again, so a run that was stopped goes on. `report`
rewrites the tables between the marks in README.md and the figures beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from benchmarks.learning.arms import ARMS
from benchmarks.learning.experiment import Budget, Run, perform
from benchmarks.learning.puzzles import FAMILIES, Family
from benchmarks.learning.results import Row, curve_area, draw, read, table

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.jsonl"
README = FOLDER / "README.md"
RATES = (1e-4, 3e-4, 1e-3)
TUNING_SEED = 100


def tuned(arm: str) -> str:
    """The arm whose learning rate this arm takes."""
    return ARMS[arm].tuned_as or arm


def tuning_runs(families: Sequence[Family], arms: Sequence[str], steps: int) -> list[Run]:
    """Every arm that has a rate of its own, on the grid that all of them share."""
    names = dict.fromkeys(tuned(arm) for arm in arms if ARMS[arm].algorithm is not None)
    return [
        Run(family, arm, TUNING_SEED, rate, steps)
        for family in families
        for arm in names
        for rate in RATES
    ]


def best_rates(rows: Iterable[Row], steps: int) -> dict[tuple[str, str], float]:
    """The rate with the best mean of the validation curve, by family and arm."""
    best: dict[tuple[str, str], tuple[float, float]] = {}
    for row in rows:
        if row["seed"] == TUNING_SEED and row["steps"] == steps:
            place = (row["family"], row["arm"])
            found = (curve_area(row), row["learning_rate"])
            best[place] = max(found, best.get(place, found))
    return {place: rate for place, (_, rate) in best.items()}


def main_runs(
    families: Sequence[Family],
    arms: Sequence[str],
    seeds: int,
    steps: int,
    rates: dict[tuple[str, str], float],
) -> list[Run]:
    """Every arm on every seed; seeds outermost, so that whatever is done can be compared."""
    return [
        Run(family, arm, seed, rates.get((family, tuned(arm)), RATES[0]), steps)
        for seed in range(seeds)
        for family in families
        for arm in arms
    ]


def work(run: Run, cache: Path) -> Row:
    """One run in a process of its own, on one core."""
    import torch

    torch.set_num_threads(1)
    return perform(run, Budget(), cache)


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
        starts = {(run.family, run.seed): run for run in left}
        for _, future in sorted(
            ((place, pool.submit(prepare, run, cache)) for place, run in starts.items()),
            key=lambda item: item[0],
        ):
            future.result()
        futures = {pool.submit(work, run, cache): run for run in left}
        for number, future in enumerate(as_completed(futures), 1):
            row = future.result()
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
            shown = 100 * row["chosen"]["pass@1"]
            print(f"{number}/{len(left)} {row['key']}: {shown:.1f} % in {row['seconds']:.0f} s",
                  flush=True)  # fmt: skip


def prepare(run: Run, cache: Path) -> None:
    """Make the policy that the runs of a family and seed start from."""
    import torch

    from benchmarks.learning.experiment import start_of

    torch.set_num_threads(1)
    start_of(run, Budget(), cache)


def report(results: Path, readme: Path) -> None:
    """Rewrite the tables in the page and the figures beside it."""
    rows = [row for row in read(results) if row["seed"] != TUNING_SEED]
    text = readme.read_text()
    for family in FAMILIES:
        own = [row for row in rows if row["family"] == family]
        if not own:
            continue
        draw(own, readme.parent / f"{family}.png")
        first, last = f"<!-- {family} -->", f"<!-- end {family} -->"
        before, rest = text.split(first)
        _, after = rest.split(last)
        text = f"{before}{first}\n{table(own)}\n{last}{after}"
    readme.write_text(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments and do it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning", description=(__doc__ or "").splitlines()[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="tune, then run every arm on every seed")
    run.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    run.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    run.add_argument("--seeds", type=int, default=5)
    run.add_argument("--steps", type=int, default=100)
    run.add_argument("--tuning-steps", type=int, default=50)
    run.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    run.add_argument("--cache", type=Path, default=Path.home() / ".cache/strop/learning")
    run.add_argument("--results", type=Path, default=RESULTS)
    commands.add_parser("report", help="write tables and figures from the results")
    options = parser.parse_args(arguments)
    if options.command == "report":
        report(RESULTS, README)
        return 0
    tuning = tuning_runs(options.families, options.arms, options.tuning_steps)
    execute(tuning, options.results, options.cache, options.workers)
    rates = best_rates(read(options.results), options.tuning_steps)
    runs = main_runs(options.families, options.arms, options.seeds, options.steps, rates)
    execute(runs, options.results, options.cache, options.workers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
