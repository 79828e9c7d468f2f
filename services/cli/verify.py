"""`strop verify`: verdicts on JSON lines, without a service and without Ray."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
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

    # Whatever the locale says: a file means the same everywhere.
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    try:
        tally = verify_with(sys.stdin, sys.stdout, workers=workers, databases=databases or None)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        typer.echo(f"strop verify: {error}", err=True)
        _discard_output()
        sys.exit(1)
    if not tally.clean:
        sys.exit(1)


def _discard_output() -> None:
    """What is still buffered cannot be written either; Python would try once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
