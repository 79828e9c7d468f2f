"""`strop verify`: verdicts on JSON lines, without a service and without Ray."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from services.cli.commands import app


@app.command()
def verify(
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, help="Processes.")] = 2,
    databases: Annotated[
        list[Path] | None,
        typer.Option(
            "--databases",
            exists=True,
            file_okay=False,
            help="Judge with databases in this folder alone; the first is where relative paths "
            "start. By default any may be named, from the current folder on.",
        ),
    ] = None,
) -> None:
    """Judge {"id", "verifier", "completion"} lines from standard input, in order."""
    from verifiers.verify_lines import verify_with

    try:
        tally = verify_with(sys.stdin, sys.stdout, workers=workers, databases=databases or None)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if not tally.clean:
        sys.exit(1)
