"""Replay repeats what the learner did, from the traces alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.config import JobSpec
from services.replay import replay
from services.traces import StepTrace, TraceError, step_path, write_job, write_step
from tests.tiny_model import make_tiny_model
from trainer.batch import assemble
from trainer.learner import Learner
from trainer.records import Group, Rollout, Task
from verifiers.verdict import Verdict


def job_on(model: Path) -> JobSpec:
    return JobSpec.model_validate(
        {
            "model": {"path": str(model), "dtype": "float32", "max_length": 64},
            "tasks": {"train": "unused.jsonl"},
            "sampling": {"max_tokens": 16, "group_size": 2, "temperature": 0.7},
            "optimizer": {"learning_rate": 1e-3, "microbatch_tokens": 64},
        }
    )


def groups(seed: int) -> tuple[Group, ...]:
    rng = np.random.default_rng(seed)

    def rollout(prompt: Any) -> Rollout:
        ids = rng.integers(3, 200, size=rng.integers(2, 9)).astype(np.int32)
        return Rollout(prompt, ids, np.full(len(ids), -3.0, np.float32), "", seed, "stop")

    def group(name: str) -> Group:
        prompt = rng.integers(3, 200, size=5).astype(np.int32)
        verdicts = (Verdict(1.0, "correct"), Verdict(0.0, "wrong"))
        return Group(
            Task(name, ({"role": "user", "content": "?"},), {"kind": "math", "answer": "1"}),
            (rollout(prompt), rollout(prompt)),
            verdicts,
            np.array([1.0, -1.0], np.float32),
        )

    return group("a"), group("b")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, float]]]:
    """A trace folder of three learned steps, and what the learner said of them."""
    folder = tmp_path_factory.mktemp("job")
    model = make_tiny_model(folder / "model")
    job = job_on(model)
    learner = Learner(
        model,
        algorithm=job.algorithm,
        optimizer=job.optimizer,
        dtype="float32",
        temperature=job.sampling.temperature,
        seed=job.seed,
    )
    traces, told = folder / "traces", []
    write_job(traces, job.model_dump(mode="json"))
    for step in range(3):
        stepped = groups(step)
        teacher = [
            np.full(len(r.completion_ids), -4.0, np.float32) for g in stepped for r in g.rollouts
        ]
        batch = assemble(stepped, teacher)
        metrics, streams = learner.learn_with_streams(batch, step)
        told.append(metrics)
        write_step(
            traces,
            StepTrace(
                step,
                stepped,
                teacher_logprobs=batch.teacher_logprobs,
                student_logprobs=streams.student_logprobs,
                credit=streams.credit,
            ),
        )
    return traces, told


def test_a_whole_folder_repeats_every_step(
    trained: tuple[Path, list[dict[str, float]]],
) -> None:
    traces, told = trained
    again = list(replay(traces))
    assert [metrics["step"] for metrics in again] == [0, 1, 2]
    for metrics, first in zip(again, told, strict=True):
        assert metrics["student_drift"] < 1e-6
        assert metrics["loss"] == pytest.approx(first["loss"], abs=1e-6)
        assert metrics["grad_norm"] == pytest.approx(first["grad_norm"], rel=1e-4)


def test_one_step_file_is_learned_from_the_first_model(
    trained: tuple[Path, list[dict[str, float]]],
) -> None:
    traces, told = trained
    (first,) = replay(step_path(traces, 0))
    assert first["loss"] == pytest.approx(told[0]["loss"], abs=1e-6)
    (last,) = replay(traces, steps={2})
    assert last["step"] == 2
    assert last["student_drift"] > 1e-3, "two steps are missing, and it shows"


def test_another_model_may_be_named(
    trained: tuple[Path, list[dict[str, float]]], tmp_path: Path
) -> None:
    other = make_tiny_model(tmp_path / "other", seed=1)
    (metrics,) = replay(trained[0], model=str(other), steps=[0])
    assert metrics["student_drift"] > 1e-2


def test_steps_that_are_not_there_are_refused(
    trained: tuple[Path, list[dict[str, float]]], tmp_path: Path
) -> None:
    with pytest.raises(TraceError, match=r"holds no step-000007\.parquet, step-000009\.parquet"):
        list(replay(trained[0], steps=[7, 0, 9]))
    with pytest.raises(TraceError, match=r"job\.json: cannot be read"):
        list(replay(tmp_path))
    write_job(tmp_path, job_on(tmp_path).model_dump(mode="json"))
    with pytest.raises(TraceError, match="no step to replay"):
        list(replay(tmp_path))
    with pytest.raises(TraceError, match=r"holds no step-000003\.parquet"):
        list(replay(step_path(tmp_path, 3)))
