"""Run the comparison, or write its tables and figures from what was measured.

    python -m benchmarks.learning run [--families chain search parity] [--seeds 5] [--workers 2]
    python -m benchmarks.learning gsm8k [--steps 8] [--seeds 1]
    python -m benchmarks.learning report

`run` takes one family after the other: the algorithms over a grid of learning rates, on seeds of
their own and in the first family alone, then every arm on every seed. Each result is one line
of results.jsonl as soon as it is there; what stands in the file is not run again, so a run that
was stopped goes on. `gsm8k` compares GRPO and RLSD on a real model through the service's own
tiers. `report` rewrites the tables between the marks in README.md and the figures beside it.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

# Ray reads these when it is imported, which what follows does.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

from benchmarks.learning.arms import ARMS
from benchmarks.learning.claims import (
    CLAIMS,
    CONTROLS,
    claims_table,
    grid_table,
    rates_table,
    starts_table,
)
from benchmarks.learning.puzzles import FAMILIES
from benchmarks.learning.real import read_real, real_table
from benchmarks.learning.results import Row, read, table
from benchmarks.learning.schedule import (
    GRID_ARMS,
    GRID_SEEDS,
    RATE,
    compared,
    execute,
    grid_runs,
    main_runs,
)

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.jsonl"
README = FOLDER / "README.md"
REAL_RESULTS = FOLDER / "gsm8k.jsonl"


def page(readme: str, rows: Sequence[Row], real: Sequence[Row]) -> str:
    """The page with its tables made anew of these rows, of puzzles and of the real model."""
    measured = compared(rows)
    tables = {
        "claims": claims_table(measured, CLAIMS),
        "controls": claims_table(measured, CONTROLS),
        "rates": rates_table(
            [row for row in rows if row["seed"] not in GRID_SEEDS and row["learning_rate"] != RATE]
        ),
        "start": starts_table(rows),
        "grid": grid_table(
            [row for row in rows if (row["seed"] in GRID_SEEDS and row["arm"] in GRID_ARMS)]
        ),
    }
    for family in FAMILIES:
        own = [row for row in measured if row["family"] == family]
        if own:
            tables[family] = table(own)
    if real:
        tables["gsm8k"] = real_table(real)
    for name, made in tables.items():
        first, last = f"<!-- {name} -->", f"<!-- end {name} -->"
        before, rest = readme.split(first)
        _, after = rest.split(last)
        readme = f"{before}{first}\n{made}\n{last}{after}"
    return readme


def report() -> None:
    """Rewrite the tables in the page and the figures beside it."""
    from benchmarks.learning.figures import draw

    rows = read(RESULTS)
    measured = compared(rows)
    README.write_text(page(README.read_text(), rows, read_real(REAL_RESULTS)))
    for family in FAMILIES:
        own = [row for row in measured if row["family"] == family]
        if own:
            draw(own, FOLDER / f"{family}.png")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments and do it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning", description=(__doc__ or "").splitlines()[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run every arm on every seed")
    run.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    run.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    run.add_argument("--seeds", type=int, default=5)
    run.add_argument("--steps", type=int, default=50)
    run.add_argument("--grid-steps", type=int, default=40)
    run.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    run.add_argument("--cache", type=Path, default=Path.home() / ".cache/strop/learning")
    run.add_argument("--results", type=Path, default=RESULTS)
    real = commands.add_parser("gsm8k", help="GRPO against RLSD on SmolLM2 and GSM8K")
    real.add_argument("--problems", type=Path, required=True, help="train_2000.jsonl")
    real.add_argument("--steps", type=int, default=8)
    real.add_argument("--seeds", type=int, default=1)
    commands.add_parser("report", help="write tables and figures from the results")
    options = parser.parse_args(arguments)
    if options.command == "report":
        report()
        return 0
    if options.command == "gsm8k":
        from benchmarks.learning import gsm8k

        gsm8k.run(REAL_RESULTS, options.problems, options.steps, options.seeds)
        return 0
    for family in options.families:
        runs = grid_runs(family, options.grid_steps)
        runs += main_runs(family, options.arms, options.seeds, options.steps)
        execute(runs, options.results, options.cache, options.workers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
