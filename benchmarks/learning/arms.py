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
    tuned_as: str | None = None
    """Takes the learning rate of another arm, from which it differs in one thing."""


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
        tuned_as="rlsd",
    ),
    "rlsd_reversed": Arm(
        {**RLSD, "evidence": "reversed"}, "RLRT's evidence", view="answer", tuned_as="rlsd"
    ),
    "contrastive": Arm(
        {**RLSD, "evidence": "contrastive"}, "CEPO's evidence", view="answer", tuned_as="rlsd"
    ),
    "contrastive_marginal": Arm(
        {**RLSD, "evidence": "contrastive_marginal"},
        "RLCSD's evidence",
        view="answer",
        tuned_as="rlsd",
    ),
    "rlsd_shuffled_answers": Arm(
        RLSD,
        "control: the teacher is told another task's answer",
        view="answer",
        control="shuffled_answers",
        tuned_as="rlsd",
    ),
    "rlsd_random_weights": Arm(
        RLSD,
        "control: the same evidence, dealt to random tokens",
        view="answer",
        control="random_weights",
        tuned_as="rlsd",
    ),
    "rlsd_normalised": Arm(
        RLSD,
        "control: token weights with mean 1, so that evidence changes no step size",
        view="answer",
        control="normalised_weights",
        tuned_as="rlsd",
    ),
    "grpo_same_rate": Arm(
        {"kind": "grpo"}, "control: GRPO at the learning rate that RLSD tuned to", tuned_as="rlsd"
    ),
    "grpo_compute": Arm(
        {"kind": "grpo"},
        "control: GRPO with the compute that the teacher costs, spent on tasks",
        groups=1.25,
        tuned_as="grpo",
    ),
    "grpo_twice": Arm(
        {"kind": "grpo"}, "control: GRPO for twice the steps", steps=2.0, tuned_as="grpo"
    ),
}
