"""The `strop` command: a thin client of the REST API, and the switch of the local service."""

from __future__ import annotations

import sys

from rich.console import Console

from services.config import ConfigError
from services.errors import StropError


def main() -> None:
    """Run `strop`; what a user can put right is one clear error and exit status 2."""
    from services.cli import jobs, keys, probe, results, verify  # noqa: F401  each adds its commands
    from services.cli.commands import app

    try:
        app(prog_name="strop")
    except (StropError, ConfigError) as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(
            f"strop: {error}", style="red", markup=False
        )
        sys.exit(2)
