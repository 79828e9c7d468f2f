"""`strop verify`: verdicts on JSON lines, without a service and without Ray."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from services.cli.commands import app


@app.command()
def verify(
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, help="Processes.")] = 2,
) -> None:
    """Judge {"id", "verifier", "completion"} lines from standard input, in order."""
    from verifiers.verify_lines import verify_with

    tally = verify_with(sys.stdin, sys.stdout, workers=workers)
    if not tally.clean:
        sys.exit(1)
