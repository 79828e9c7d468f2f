"""The verdict: what a verifier says of one completion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["correct", "wrong", "malformed", "timeout", "infra_error"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Score and status of one completion.

    `score` lies in [0, 1]; it is None exactly when `status` is `infra_error`, a fault of
    ours, which must never count as a reward. `evidence` is what a person needs to see
    (plain JSON data, capped in size). `cpu_ms` and `wall_ms` are counted from the moment
    the work started, not from when it was queued.
    """

    score: float | None
    status: Status
    evidence: Mapping[str, Any] = field(default_factory=dict[str, Any])
    cpu_ms: float = 0.0
    wall_ms: float = 0.0

    def __post_init__(self) -> None:
        if (self.score is None) != (self.status == "infra_error"):
            raise ValueError(
                f"a verdict of status {self.status!r} cannot have score {self.score!r}"
            )
        if self.score is not None and not 0.0 <= self.score <= 1.0:
            raise ValueError(f"a score lies in [0, 1], not {self.score!r}")


MAX_EVIDENCE = 500
"""Characters of one string of evidence."""


def clip(text: str) -> str:
    """Evidence of bounded size: the beginning and how much was left out."""
    if len(text) <= MAX_EVIDENCE:
        return text
    return f"{text[:MAX_EVIDENCE]}... ({len(text) - MAX_EVIDENCE} more characters)"
