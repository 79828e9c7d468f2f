"""What a tracker is handed, and what it must do with it: the narrow seam to their libraries.

One file here for each library, imported in a process of its own alone. Everything may block,
and any error may be raised: whoever holds the other end of the process has the deadlines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Run:
    """The job as a tracker knows it: the same id whenever the job goes on.

    `folder` is for what the tracker keeps of this job; `config` is the resolved job spec.
    """

    id: str
    name: str
    folder: Path
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured after `step` steps, at `at` (seconds since 1970): number by name."""

    step: int
    at: float
    values: Mapping[str, float]


class Sink(Protocol):
    """An open run of one tracker."""

    @property
    def url(self) -> str | None:
        """Where a person can look at the run, if it has a place."""
        ...

    def log(self, points: Sequence[Point]) -> None:
        """Take these points, in the order of steps; return when they would survive a kill."""
        ...

    def close(self, outcome: str) -> None:
        """Send what is left. `outcome` is the job's, `running` when it will go on elsewhere."""
        ...


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A spec's leaves by their dotted names."""
    leaves: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            leaves |= flat(value, f"{prefix}{name}.")  # pyright: ignore[reportUnknownArgumentType]
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves
