"""The `strop` command: a thin client of the REST API, and the switch of the local service."""

from __future__ import annotations

import sys

from rich.console import Console

from services.errors import StropError
from services.job_files import ConfigError

_ENGINE = ("ray", "torch", "transformers", "vllm")
"""What the extras `cpu` and `gpu` bring, by the module that is missed first."""


def main() -> None:
    """Run `strop`; what a user can put right is one clear error and exit status 2."""
    from services.cli import jobs, keys, probe, results, verify  # noqa: F401  each adds its commands
    from services.cli.commands import app

    try:
        app(prog_name="strop")
    except (StropError, ConfigError) as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _ENGINE:
            raise
        _fail(
            f"this command computes with models, and {error.name} is not installed: install strop "
            "with its extra cpu or gpu"
        )


def _fail(message: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(
        f"strop: {message}", style="red", markup=False
    )
    sys.exit(2)
