"""Jobs of which the store and the disk say what a controller would have told: events, traces.

Nothing of the service is replaced: the records are written through the store and the trace
writer, as the journal and the learner do it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from services.config import JobSpec
from services.jobs import Job
from services.store import Store
from services.traces import StepTrace, write_job, write_step
from trainer.records import Group, Privileged, Rollout, Task
from verifiers.verdict import Verdict

STEPS = 12
GROUPS, ROLLOUTS, TOKENS = 3, 4, 24
QUESTION = "What is 17 + 25? Think, then write the answer after ####."
RIGHT = "17 and 25 make 42. #### 42"
WRONG = "17 and 25 make 32. #### 32"
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script> #### 42"


def spec(folder: Path, **changes: Any) -> dict[str, Any]:
    """A resolved job spec."""
    asked = {
        "name": "sums",
        "steps": STEPS,
        "model": {"path": "smollm2-135m-instruct", "dtype": "float32"},
        "tasks": {"train": str(folder / "train.jsonl"), "holdout": str(folder / "holdout.jsonl")},
        "algorithm": {"kind": "rlsd"},
        "sampling": {"group_size": ROLLOUTS, "groups_per_step": GROUPS, "max_tokens": 64},
        **changes,
    }
    return JobSpec.model_validate(asked).model_dump(mode="json")


def step_data(done: int, steps: int, *, speed: float = 1.0) -> dict[str, Any]:
    """The numbers of a step event, of a run that learns; `done` counts from 1."""
    share = 1 - math.exp(-speed * done / steps * 2)
    wave = 0.03 * math.sin(done * 1.7)
    reward = 0.25 + 0.5 * share + wave
    flat = 2 if done % 5 == 0 else done % 2
    return {
        "kind": "step",
        "step": done,
        "steps": steps,
        "version": done,
        "reward_mean": reward,
        "rewards": {"math": reward + 0.06, "choice": reward - 0.08},
        "loss": -0.02 * share + wave / 10,
        "grad_norm": 0.8 + 4 * abs(wave),
        "entropy": 1.9 - 0.6 * share + wave,
        "mix": max(0.0, 0.5 - done / 100),
        "completion_tokens": GROUPS * ROLLOUTS * TOKENS,
        "completion_length_mean": 57 + 20 * share + 30 * wave,
        "tokens_per_s": 410.0 + 100 * wave,
        "phase_seconds": {"rollout": 2.1, "verify": 0.2, "teacher": 0.6, "learn": 1.4, "publish": 0.3},
        "idle_share": {"rollout": 0.31, "verifier": 0.94, "teacher": 0.82, "trainer": 0.55},
        "evidence_rewarded": 0.06 + wave,
        "evidence_blamed": -0.09 + wave,
        "weight_mean": 1.0 + wave / 4,
        "weight_clip_share": 0.31 - 0.1 * share,
        "clip_share": 0.002 * done / steps,
        "importance_cap_share": 0.01,
        "engine_mismatch": 0.004 + abs(wave) / 100,
        "kl_start": 0.06 * share,
        "leak_reference": 0.01 * share,
        "leak_early_answer": 0.02 + 0.02 * share,
        "leak_overlap": 0.03,
        "leak_rise": 0.02 * share,
        "staleness": 0.0,
        "groups": GROUPS,
        "zero_variance_groups": flat,
        "zero_variance_share": flat / GROUPS,
        "refilled_groups": 1,
        "infra_errors": 0,
        "dropped_stale": 0,
        "effective_step": 1.0,
        "canary_gap": 1e-5,
        "weight_bytes": 269_000_000.0,
        "holdout_accuracy": None,
        "seconds_left": 4.6 * (steps - done),
    }  # fmt: skip


def evaluation_data(step: int, correct: int, n: int = 40) -> dict[str, Any]:
    """The numbers of an evaluation event."""
    from services.statistics import wilson

    low, high = wilson(correct, n)
    found = {"accuracy": correct / n, "low": low, "high": high, "n": n}
    return {
        "kind": "evaluation",
        "step": step,
        "correct": [1.0] * correct + [0.0] * (n - correct),
        **found,
        "by_verifier": {"math": found},
    }


class Running:
    """A job that somebody claimed; `step` is what its controller would tell next."""

    def __init__(self, store: Store, job: Job, folder: Path) -> None:
        self.job = job
        self.done = 0
        self._store = store
        self._folder = folder
        write_job(folder / "traces", dict(job.spec))

    @classmethod
    async def start(
        cls, store: Store, home: Path, asked: Mapping[str, Any], **more: Any
    ) -> Running:
        created = await store.create_job(asked, **more)
        job = await store.claim("page-test", created.id, lease_s=3600)
        assert job is not None
        running = cls(store, job, home / "jobs" / job.id)
        await running.tell("models are loaded", {"kind": "note"})
        await running.evaluate(12)
        return running

    async def tell(
        self, message: str, data: Mapping[str, Any], *, level: str = "info", type: str = "message"
    ) -> None:
        await self._store.append_event(
            self.job.id,
            message=message,
            data=data,
            level=level,  # pyright: ignore[reportArgumentType]
            type=type,  # pyright: ignore[reportArgumentType]
            token=self.job.token,
        )

    async def evaluate(self, correct: int) -> None:
        data = evaluation_data(self.done, correct)
        await self.tell(f"held-out accuracy {data['accuracy']:.3f}", data, type="metrics")

    async def step(self, *, traced: bool = True, **changes: Any) -> None:
        """One more step: its phases, its numbers and its rollouts."""
        steps = int(self.job.spec["steps"])
        for phase in ("rollout", "learn"):
            at = {"kind": "phase", "phase": phase, "step": self.done}
            await self.tell(f"{phase} ({self.done}/{steps})", at)
        if traced:
            write_step(self._folder / "traces", trace(self.done))
        self.done += 1
        data = step_data(self.done, steps) | changes
        message = f"step {self.done}/{steps}: reward {data['reward_mean']:.3f}"
        await self.tell(message, data, type="metrics")

    async def save(self) -> None:
        """A checkpoint after the newest step."""
        path = str(self._folder / "checkpoints" / f"step-{self.done:06d}")
        at = {"kind": "checkpoint", "step": self.done, "path": path}
        await self.tell(f"checkpoint of step {self.done}: {path}", at)
        numbers = {"reward_mean": 0.61, "loss": -0.01}
        await self._store.add_checkpoint(self.job.id, self.job.token, self.done, path, numbers)

    async def succeed(self) -> None:
        model = str(self._folder / "model")
        result = {"model": model, "gain": {"difference": 0.3, "low": 0.1, "high": 0.5, "n": 40}}
        await self.tell(f"trained model: {model}", {"kind": "result", **result})
        await self._store.transition(
            self.job.id, "succeeded", token=self.job.token, result=result
        )  # fmt: skip


def trace(step: int) -> StepTrace:
    """The rollouts of one step, each with its streams."""
    groups = tuple(_group(step, index) for index in range(GROUPS))
    noise = np.random.default_rng(step).normal(0, 0.4, (2, GROUPS * ROLLOUTS * TOKENS))
    student = -np.abs(noise[0]).astype(np.float32)
    teacher = (student + noise[1]).astype(np.float32)
    advantages = np.concatenate(
        [np.repeat(group.advantages, TOKENS).astype(np.float32) for group in groups]
    )
    return StepTrace(
        step,
        groups,
        teacher_logprobs=teacher,
        student_logprobs=student,
        credit=advantages * (1 + 0.2 * np.sign(teacher - student)).astype(np.float32),
        span_mask=np.ones_like(student, dtype=np.bool_),
        teacher_prompt_lengths=np.full(GROUPS * ROLLOUTS, 60, dtype=np.int32),
    )


def _group(step: int, index: int) -> Group:
    task = Task(
        id=f"sum-{index}",
        messages=({"role": "user", "content": QUESTION},),
        verifier={"kind": "math", "answer": "42"},
        privileged=Privileged(answer="42", trace="17 + 25 = 42"),
    )
    rng = np.random.default_rng((step, index))
    texts: Sequence[str] = [RIGHT, WRONG, HOSTILE if index == 0 else RIGHT, WRONG]
    right = [text != WRONG for text in texts]
    rollouts = tuple(
        Rollout(
            prompt_ids=rng.integers(20, 20_000, 18).astype(np.int32),
            completion_ids=rng.integers(20, 20_000, TOKENS).astype(np.int32),
            logprobs=-np.abs(rng.normal(0, 0.5, TOKENS)).astype(np.float32),
            text=text,
            version=step,
            finish_reason="stop",
        )
        for text in texts
    )
    verdicts = tuple(
        Verdict(1.0, "correct", {"expected": "42", "got": "42"}, 0.2, 0.3)
        if good
        else Verdict(0.0, "wrong", {"expected": "42", "got": "32"}, 0.2, 0.3)
        for good in right
    )
    advantages = np.array([1.0 if good else -1.0 for good in right], dtype=np.float32)
    return Group(task, rollouts, verdicts, advantages)
