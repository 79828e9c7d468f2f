"""Run the comparison, or write its tables and figures from what was measured.

    python -m benchmarks.learning run [--families chain search parity] [--seeds 5] [--workers 2]
    python -m benchmarks.learning report

`run` takes one family after the other: it tunes the learning rate of every arm on a seed of its
own, over the same grid for all, then runs every arm on every seed. Each result is one line of results.jsonl as soon as it
is there; what stands in the file is not run again, so a run that was stopped goes on. `report`
rewrites the tables between the marks in README.md and the figures beside it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.learning.arms import ARMS
from benchmarks.learning.puzzles import FAMILIES
from benchmarks.learning.results import draw, read, table
from benchmarks.learning.schedule import (
    TUNING_SEED,
    best_rates,
    execute,
    main_runs,
    tuning_runs,
)

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.jsonl"
README = FOLDER / "README.md"


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
    run.add_argument("--steps", type=int, default=60)
    run.add_argument("--tuning-steps", type=int, default=40)
    run.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    run.add_argument("--cache", type=Path, default=Path.home() / ".cache/strop/learning")
    run.add_argument("--results", type=Path, default=RESULTS)
    commands.add_parser("report", help="write tables and figures from the results")
    options = parser.parse_args(arguments)
    if options.command == "report":
        report(RESULTS, README)
        return 0
    for family in options.families:
        tuning = tuning_runs(family, options.arms, options.tuning_steps)
        execute(tuning, options.results, options.cache, options.workers)
        rates = best_rates(read(options.results), family, options.tuning_steps)
        runs = main_runs(family, options.arms, options.seeds, options.steps, rates)
        execute(runs, options.results, options.cache, options.workers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
