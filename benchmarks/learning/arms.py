"""The arms of the experiment: an algorithm each, and controls that take one thing away.

Every arm is a job's `algorithm` and, where a control needs it, a change of the data, of the
evidence or of the budget. Nothing else differs between arms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Control = Literal["shuffled_answers", "random_weights", "normalised_weights"]


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm. `groups` and `steps` multiply the common budget."""

    algorithm: dict[str, Any] | None
    why: str
    view: str | None = None
    control: Control | None = None
    groups: float = 1.0
    steps: float = 1.0


RLSD: dict[str, Any] = {"kind": "rlsd"}
DISTILLED: dict[str, Any] = {"top_k": 16}

ARMS: dict[str, Arm] = {
    "base": Arm(None, "the warm-started policy"),
    "grpo": Arm({"kind": "grpo"}, "the baseline"),
    "dapo": Arm(
        {"kind": "grpo", "refills": 2, "overlong_buffer": 4},
        "GRPO with dynamic sampling, clip-higher and overlong shaping",
    ),
    "opsd": Arm({"kind": "opsd", **DISTILLED}, "distils the hinted policy", view="answer"),
    "grpo_opsd": Arm({"kind": "grpo_opsd", **DISTILLED}, "the blend of both", view="answer"),
    "sdpo": Arm({"kind": "sdpo", **DISTILLED}, "distils from right siblings", view="sibling"),
    "rlsd": Arm(RLSD, "the paper's Algorithm 1", view="answer"),
    "rlsd_constant": Arm(
        {**RLSD, "mix": {"start": 0.5, "end": 0.5}},
        "the mix does not decay",
        view="answer",
    ),
    "rlsd_reversed": Arm({**RLSD, "evidence": "reversed"}, "RLRT's evidence", view="answer"),
    "contrastive": Arm({**RLSD, "evidence": "contrastive"}, "CEPO's evidence", view="answer"),
    "contrastive_marginal": Arm(
        {**RLSD, "evidence": "contrastive_marginal"},
        "RLCSD's evidence",
        view="answer",
    ),
    "rlsd_shuffled_answers": Arm(
        RLSD,
        "control: the teacher is told another task's answer",
        view="answer",
        control="shuffled_answers",
    ),
    "rlsd_random_weights": Arm(
        RLSD,
        "control: the same evidence, dealt to random tokens",
        view="answer",
        control="random_weights",
    ),
    "rlsd_normalised": Arm(
        RLSD,
        "control: token weights with mean 1, so that evidence changes no step size",
        view="answer",
        control="normalised_weights",
    ),
    "grpo_compute": Arm(
        {"kind": "grpo"},
        "control: GRPO with the compute that the teacher costs, spent on tasks",
        groups=1.25,
    ),
    "grpo_twice": Arm({"kind": "grpo"}, "control: GRPO for twice the steps", steps=2.0),
}
