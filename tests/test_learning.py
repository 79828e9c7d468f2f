"""The trainer tier's worker: what is kept of a step, also of one that could not be learned."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch

from services.config import JobSpec
from services.learning import GroupRefs, LearnerWorker, LearningOptions
from services.replay import replay
from services.trace_batch import to_batch
from services.traces import read_step, step_paths, write_job
from services.weights import Publication, unpack_verified
from tests.ray_cluster import local_ray
from tests.tiny_model import make_tiny_model
from trainer.adamw import LearningError
from trainer.algorithm_spec import AlgorithmSpec, Ema, Opsd, Rlsd, Synced
from trainer.checkpoint import newest
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
    told, refused = worker(tmp_path, algorithm).learn(groups, [ray.put(evidence)], 0)
    assert refused is None
    assert told["shortened_share"] == 0
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


def weights_of(publication: Publication | None) -> dict[str, Any]:
    assert publication is not None
    arrays = map(ray.get, publication.buckets)
    return dict(unpack_verified(publication.manifest, arrays))  # type: ignore[arg-type]


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def published(one: LearnerWorker, version: int, *, to_teacher: bool) -> tuple[Any, Any]:
    both = one.publish(version, to_teacher=to_teacher)
    assert both is not None
    return weights_of(both[0]), weights_of(both[1])


@pytest.mark.parametrize("teacher", [Synced(synced=2), Ema(ema=0.25), "live"])
def test_a_learner_that_resumes_learns_on_and_has_the_teachers_weights(
    tmp_path: Path, teacher: Any
) -> None:
    groups, evidence = references()
    algorithm = Rlsd(teacher=teacher)
    due = [not isinstance(teacher, Synced) or version % 2 == 0 for version in range(4)]

    def learned(one: LearnerWorker, steps: range) -> tuple[Any, Any]:
        published(one, steps.start, to_teacher=due[steps.start])
        for step in steps:
            one.learn(groups, [ray.put(evidence)], step)
            one.publish(step + 1, to_teacher=due[step + 1])
        return published(one, steps.stop, to_teacher=due[steps.stop])

    first = worker(tmp_path, algorithm)
    learned(first, range(1))
    model = tmp_path / "checkpoints" / "step-00000001" / "model"
    assert first.save(1, {"position": 2}) == (str(model), None)
    policy, lesson = learned(first, range(1, 3))
    found = newest(tmp_path / "checkpoints").checkpoint
    assert found is not None
    assert found.cursor["tasks"] == {"position": 2}

    second = worker(tmp_path, algorithm)
    second.resume(found)
    again, taught = learned(second, range(1, 3))
    assert equal(again, policy)
    assert equal(taught, lesson)
    assert equal(policy, lesson) == (teacher == "live"), "the others lag behind"


def test_an_averaged_teachers_weights_take_in_each_version_by_its_share(tmp_path: Path) -> None:
    groups, evidence = references()
    one = worker(tmp_path, Rlsd(teacher=Ema(ema=0.25)))
    start, lesson = published(one, 0, to_teacher=True)
    assert equal(start, lesson)
    one.learn(groups, [ray.put(evidence)], 0)
    policy, lesson = published(one, 1, to_teacher=True)
    assert not equal(start, policy)
    for name, weight in lesson.items():
        assert torch.allclose(weight, 0.75 * start[name] + 0.25 * policy[name], atol=1e-6)
    assert equal(published(one, 1, to_teacher=True)[1], lesson), "no version is taken in twice"


def test_a_full_disk_is_told_and_ends_no_learner(tmp_path: Path) -> None:
    groups, evidence = references()
    one = worker(tmp_path, Rlsd())
    one.publish(0, to_teacher=True)
    with full_disk():
        metrics, refused = one.learn(groups, [ray.put(evidence)], 0)
        assert metrics["grad_norm"] > 0
        assert str(refused).startswith("the trace of step 1 cannot be written")
        saved = one.save(1, {"position": 2})
        assert saved is not None
        assert saved[0] is None
        assert "cannot be written" in str(saved[1])
    assert newest(tmp_path / "checkpoints").checkpoint is None
    assert [path.name for path in (tmp_path / "traces").iterdir()] == ["job.json"]
    assert one.learn(groups, [ray.put(evidence)], 1)[1] is None
    assert one.save(1, {"position": 2}) != saved


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process grows beyond a few bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
