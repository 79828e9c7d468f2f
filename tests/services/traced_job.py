"""The traces of a small job, for tests that read them through the API."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from services.trace_vocabulary import Vocabulary, write_vocabulary
from services.traces import StepTrace, write_job, write_step
from trainer.records import Group, Privileged, Rollout, Task
from verifiers.verdict import Verdict

SPEC = {
    "name": "sums",
    "seed": 0,
    "model": {"path": "base"},
    "tasks": {"train": "t.jsonl", "holdout": None},
    "privileged": {"kind": "trace"},
}
PIECES = {3: b"It", 4: b" is", 5: " \u00e9".encode()[:2], 6: "\u00e9".encode()[1:], 7: b"<|end|>"}


def rollout(ids: list[int], text: str) -> Rollout:
    return Rollout(
        prompt_ids=np.array([1, 2], np.int32),
        completion_ids=np.array(ids, np.int32),
        logprobs=np.linspace(-1, 0, len(ids), dtype=np.float32),
        text=text,
        version=0,
        finish_reason="stop",
    )


def step_trace(step: int = 0) -> StepTrace:
    """A group of three: a right one with evidence, a wrong one without, one that nobody judged."""
    task = Task(
        id="t1",
        messages=({"role": "user", "content": "<script>alert(1)</script> \ud800"},),
        verifier={"kind": "math", "answer": "12"},
        privileged=Privileged(answer="12", trace="3 x 4 = 12"),
    )
    nan = np.nan
    return StepTrace(
        step,
        (
            Group(
                task,
                (
                    rollout([3, 4, 5, 6, 7], "It is \u00e9"),
                    rollout([3, 4], "It is"),
                    rollout([3], "It"),
                ),
                (
                    Verdict(1.0, "correct", {"margin": float("inf"), "seen": [float("nan"), 1]}),
                    Verdict(0.0, "wrong"),
                    Verdict(None, "infra_error"),
                ),
                np.array([1.5, -1.5, nan], np.float32),
            ),
        ),
        teacher_logprobs=np.array([-1, -2, -3, -4, -5, nan, nan], np.float32),
        student_logprobs=np.array([-2, -2, -2, -2, -2, -1, -1], np.float32),
        entropy=np.array([1, 1, 1, 1, 1, nan, nan], np.float32),
        alternative_ids=np.array([[3, 4]] * 5 + [[-1, -1]] * 2, np.int32),
        alternative_logprobs=np.array([[-0.5, -1]] * 5 + [[nan, nan]] * 2, np.float16),
        credit=np.array([1.5, 1.5, 3, 1.5, 1.5, -1.5, -1.5], np.float32),
        teacher_prompt_lengths=np.array([9, 0], np.int32),
        teacher_turns=("3 x 4 = 12", ""),
    )


def write_traces(folder: Path) -> None:
    """Three steps of one group each; its rollouts are `1-0-0` to `3-0-2`."""
    write_job(folder, SPEC)
    write_vocabulary(folder, Vocabulary(PIECES, frozenset({7})))
    for step in range(3):
        write_step(folder, step_trace(step))
