"""The trainer tier's worker: what is kept of a step, also of one that could not be learned."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from services.config import JobSpec
from services.learning import GroupRefs, LearnerWorker, LearningOptions
from services.replay import replay
from services.trace_batch import to_batch
from services.traces import read_step, step_paths, write_job
from tests.ray_cluster import local_ray
from tests.tiny_model import make_tiny_model
from trainer.adamw import LearningError
from trainer.algorithm_spec import AlgorithmSpec, Opsd, Rlsd
from trainer.evidence import Evidence
from trainer.records import Rollout, Task
from trainer.spec import OptimizerSpec
from verifiers.verdict import Verdict

TASKS = [Task(n, ({"role": "user", "content": n},), {"kind": "math", "answer": "1"}) for n in "ab"]
VERDICTS = [
    (Verdict(1.0, "correct"), Verdict(0.0, "wrong"), Verdict(None, "infra_error")),
    (Verdict(0.0, "wrong"),) * 3,
]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with local_ray(cpus=1):
        yield


def rollout(rng: np.random.Generator, prompt: Any) -> Rollout:
    ids = rng.integers(3, 200, size=rng.integers(2, 9)).astype(np.int32)
    return Rollout(prompt, ids, np.full(len(ids), -3.0, np.float32), "", 0, "stop")


def references() -> tuple[list[GroupRefs], list[list[Evidence | None]]]:
    """Two groups, the second without contrast; the teacher knows nothing of two rollouts."""
    rng = np.random.default_rng(0)
    found: list[GroupRefs] = []
    evidence: list[list[Evidence | None]] = []
    for task, verdicts in zip(TASKS, VERDICTS, strict=True):
        prompt = rng.integers(3, 200, size=5).astype(np.int32)
        rollouts = tuple(rollout(rng, prompt) for _ in verdicts)
        found.append(GroupRefs(task, ray.put(rollouts), ray.put(verdicts)))
        evidence.append(
            [
                Evidence(
                    9,
                    np.full(len(r.completion_ids), -2, np.float32),
                    top_ids=np.tile(np.arange(3, dtype=np.int32), (len(r.completion_ids), 1)),
                    top_logprobs=np.full((len(r.completion_ids), 3), -1.5, np.float32),
                )
                for r in rollouts
            ]
        )
    evidence[0][2] = evidence[1][1] = None
    return found, evidence


def worker(folder: Path, algorithm: AlgorithmSpec, **optimizer: Any) -> LearnerWorker:
    model = make_tiny_model(folder / "model")
    spec = {"learning_rate": 1e-3, "microbatch_tokens": 64} | optimizer
    job = JobSpec.model_validate(
        {
            "model": {"path": str(model), "dtype": "float32", "max_length": 64},
            "tasks": {"train": "unused.jsonl"},
            "algorithm": algorithm.model_dump(),
            "sampling": {"max_tokens": 16, "group_size": 3},
            "optimizer": spec,
        }
    )
    write_job(folder / "traces", job.model_dump(mode="json"))
    return LearnerWorker(
        LearningOptions(
            model_path=str(model),
            dtype="float32",
            temperature=1.0,
            max_tokens=16,
            steps=5,
            seed=0,
            algorithm=algorithm,
            optimizer=OptimizerSpec(**spec),
            canary_ids=(5, 6, 7),
            trace_folder=str(folder / "traces"),
            checkpoint_folder=str(folder / "checkpoints"),
            checkpoints_kept=1,
            leak_patterns=(),
        )
    )


@pytest.mark.parametrize("algorithm", [Rlsd(), Opsd(top_k=3, divergence=0.5)])
def test_a_step_is_kept_and_repeated_from_its_trace(
    tmp_path: Path, algorithm: AlgorithmSpec
) -> None:
    groups, evidence = references()
    told = worker(tmp_path, algorithm).learn(groups, [ray.put(evidence)], 0)
    (path,) = step_paths(tmp_path / "traces")
    trace = read_step(path)
    batch = to_batch(trace)
    assert batch.is_taught.tolist() == [True, True, True, False, True]
    assert batch.top_ids is not None
    assert batch.top_ids.shape == (batch.completion_lengths.sum(), 3)
    assert trace.teacher_prompt_lengths is not None
    assert trace.teacher_prompt_lengths.tolist() == [9, 9, 9, 0, 9]
    assert (trace.credit is None) == isinstance(algorithm, Opsd), "it has no advantages to scale"
    (again,) = replay(tmp_path / "traces")
    assert again["loss"] == pytest.approx(told["loss"], abs=1e-6)
    assert again["grad_norm"] == pytest.approx(told["grad_norm"], rel=1e-4)
    assert again["student_drift"] < 1e-6


def test_a_batch_that_cannot_be_learned_stops_the_job_and_is_kept_for_replay(
    tmp_path: Path,
) -> None:
    groups, evidence = references()
    with pytest.raises(LearningError, match=r"step 2: .* strop replay .*traces --step 2"):
        worker(tmp_path, Rlsd(), max_grad_norm=1e-9).learn(groups, [ray.put(evidence)], 2)
    (path,) = step_paths(tmp_path / "traces")
    assert read_step(path).student_logprobs is None
    with pytest.raises(LearningError, match="gradient norm"):
        list(replay(tmp_path / "traces"))
