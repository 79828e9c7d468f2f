"""The real tiers on a tiny random model: Ray actors, vLLM, the verifier pool, the learner."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.config import JobSpec
from services.controller import describe
from services.pipeline import Judged, Rolled, Sampled, side_by_side, train
from services.rollout import SamplingOptions
from services.tiers import RayTiers
from services.trace_batch import to_batch
from services.traces import read_step, step_paths
from services.weights import Manifest, Publication, StaleWeights, checksum, pack
from tests.ray_cluster import local_ray
from tests.tiny_model import make_tiny_model
from trainer.privileged import student_prompt
from trainer.records import Privileged, Task

TASKS = [
    Task(
        f"t{n}",
        ({"role": "user", "content": f"{n} + {n} = ?"},),
        {"kind": "math", "answer": str(2 * n)},
        Privileged(answer=str(2 * n)),
    )
    for n in range(3)
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with local_ray(cpus=4):
        yield


def job(model: Path, **changes: Any) -> JobSpec:
    return JobSpec.model_validate(
        {
            "model": {"path": str(model), "dtype": "float32", "max_length": 128},
            "tasks": {"train": "unused.jsonl"},
            "algorithm": {"kind": "rlsd"},
            "privileged": {"kind": "answer"},
            "sampling": {"group_size": 4, "groups_per_step": 3, "max_tokens": 8},
            "optimizer": {"learning_rate": 1e-2, "microbatch_tokens": 256},
            "engine": {"kv_cache_gib": 0.05, "max_sequences": 16},
            "tiers": {
                "rollout": {"cpus": 0.5},
                "teacher": {"cpus": 0.5},
                "trainer": {"cpus": 0.5},
                "verifier": {"cpus": 0.5},
            },
            **changes,
        }
    )


def scored(judged: Judged, scores: list[float]) -> Judged:
    """The same group with verdicts of our choosing, so that a random model has contrast."""
    verdicts = ray.get(judged.verdicts)
    changed = tuple(
        type(v)(score, "correct" if score else "wrong")
        for v, score in zip(verdicts, scores, strict=True)
    )
    return Judged(judged.rolled, ray.put(changed), tuple(scores), tuple(v.status for v in changed))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def prompts(model: Path) -> dict[str, np.ndarray]:
    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    return {task.id: student_prompt(task, tokenizer) for task in TASKS}


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def spec(model: Path) -> JobSpec:
    sampling = {"group_size": 4, "groups_per_step": 3, "max_tokens": 48, "max_staleness": 1}
    return job(model, sampling=sampling, steps=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("job")


@pytest.fixture(scope="module")
def tiers(
    cluster: None,
    loop: asyncio.Runner,
    spec: JobSpec,
    model: Path,
    folder: Path,
    prompts: dict[str, np.ndarray],
) -> Iterator[RayTiers]:
    """Started once, for that takes a minute; each test publishes the weights it needs."""
    tiers = RayTiers(spec, model, folder, prompts)
    try:
        loop.run(tiers.start())
        yield tiers
    finally:
        loop.run(tiers.stop())


def direct_logprobs(model: Path, ids: list[int]) -> np.ndarray:
    """What transformers says of these tokens after the first."""
    policy: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    with torch.no_grad():
        logits = policy(torch.tensor([ids])).logits[0, :-1]
    return logits.log_softmax(-1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0].numpy()


def test_a_step_through_every_tier_ends_with_the_learners_weights_in_the_engine(
    tiers: RayTiers,
    loop: asyncio.Runner,
    model: Path,
    folder: Path,
    prompts: dict[str, np.ndarray],
) -> None:
    probe = prompts["t1"].tolist()

    async def run() -> tuple[Any, list[Judged], dict[str, float], np.ndarray, str]:
        await tiers.publish(0, to_teacher=True)
        rolled = await side_by_side(tiers.generate(task, 4) for task in TASKS)
        judged = await side_by_side(tiers.verify(group) for group in rolled)
        groups = [scored(group, [1.0, 0.0, 0.0, 1.0]) for group in judged]
        evidence = await tiers.score(groups)
        metrics = await tiers.learn(groups, evidence, 0)
        metrics |= await tiers.publish(1, to_teacher=False)
        after = await tiers.generate(TASKS[0], 2)
        engine = tiers.engines[0]
        logprobs = await engine.prompt_logprobs.remote(probe)
        return after, judged, metrics, logprobs, await tiers.checkpoint(1, {"position": 3})

    after, judged, metrics, logprobs, saved = loop.run(run())

    assert after.version == 1
    assert {status for group in judged for status in group.statuses} <= {
        "wrong",
        "malformed",
        "correct",
    }
    assert metrics["grad_norm"] > 0
    assert metrics["canary_gap"] < 1e-3
    assert metrics["leak_rise"] == 0.0, "the first step is what later ones are measured by"
    assert (folder / "traces" / "leakage.json").exists()
    assert metrics["engine_mismatch"] < 1e-3, "in float32 the engine's log-probs are the learner's"

    assert np.abs(logprobs - direct_logprobs(Path(saved), probe)).max() < 1e-3
    moved = np.abs(logprobs - direct_logprobs(model, probe)).max()
    assert moved > 1e-2, "one step must have moved the weights"

    (path,) = step_paths(folder / "traces")
    trace = read_step(path)
    assert [group.task.id for group in trace.groups] == ["t0", "t1", "t2"]
    assert trace.teacher_logprobs is not None
    assert trace.credit is not None
    assert trace.student_logprobs is not None
    sign = np.sign(
        np.concatenate(
            [
                np.repeat(g.advantages, [len(r.completion_ids) for r in g.rollouts])
                for g in trace.groups
            ]
        )
    )
    assert (np.sign(trace.credit) == sign).all()


class Recorder:
    """A journal that keeps what each step learned from."""

    def __init__(self) -> None:
        self.versions: list[set[int]] = []

    async def phase(self, name: str, step: int) -> None: ...

    async def sampled(self, step: int, sampled: Sampled) -> None: ...

    async def learned(self, step: int, sampled: Sampled, metrics: Any, seconds: Any) -> None:
        self.versions.append({group.rolled.version for group in sampled.groups})

    async def evaluated(self, step: int, judged: Any) -> None: ...

    async def saved(self, step: int, path: str) -> None: ...

    async def not_saved(self, step: int, reason: str) -> None: ...


def test_groups_are_sampled_across_a_change_of_weights(
    tiers: RayTiers, loop: asyncio.Runner, spec: JobSpec
) -> None:
    journal = Recorder()

    async def run() -> list[int]:
        await train(spec, tiers, TASKS, [], journal)
        publishing = asyncio.create_task(tiers.publish(5, to_teacher=False))
        asked: list[asyncio.Task[Rolled]] = []
        while not publishing.done():
            asked.append(asyncio.create_task(tiers.generate(TASKS[0], 4)))
            await asyncio.sleep(0.01)
        await publishing
        return [group.version for group in await asyncio.gather(*asked)]

    versions = loop.run(run())

    assert len(journal.versions) == 4
    for step, sampled in enumerate(journal.versions):
        assert sampled <= {step - 1, step}, "never older than max_staleness"
    assert any(step - 1 in sampled for step, sampled in enumerate(journal.versions))
    assert versions == sorted(versions)
    assert set(versions) <= {4, 5}
    assert 5 in versions, "a group that arrives during the change waits for the new weights"


def test_an_engine_whose_weights_are_not_the_learners_stops_the_job_and_samples_nothing(
    tiers: RayTiers, loop: asyncio.Runner, model: Path, prompts: dict[str, np.ndarray]
) -> None:
    weights: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).state_dict()
    weights = {name: tensor for name, tensor in weights.items() if name != "lm_head.weight"}
    canary = prompts["t0"].tolist()
    entries, buckets, checksums = [], [], []
    for placed, bucket in pack(weights.items()):
        entries += placed
        buckets.append(ray.put(bucket))
        checksums.append(checksum(bucket))
    rollout = tiers._rollout  # pyright: ignore[reportPrivateUsage]

    def publication(version: int, logprobs: np.ndarray) -> Publication:
        told = tuple(float(x) for x in logprobs)
        manifest = Manifest(version, tuple(entries), tuple(checksums), tuple(canary), told)
        return Publication(manifest, tuple(buckets))

    async def run() -> BaseException:
        said = direct_logprobs(model, canary)
        (proof,) = await rollout.publish(publication(1, said))
        assert proof["canary_gap"] < 1e-3
        with pytest.raises(StaleWeights, match=r"version 2: .* differ .* by 0\.01\d* nats") as no:
            await rollout.publish(publication(2, said + 0.01))
        sampling = SamplingOptions(max_tokens=4, temperature=1.0)
        with pytest.raises(StaleWeights, match="not proven any policy version"):
            await tiers.engines[0].generate.remote(prompts["t0"], sampling, 2)
        return no.value

    told = describe(loop.run(run()))
    assert told["code"] == "stale_weights"
    assert told["message"].startswith("StaleWeights: engine does not run policy version 2")


def test_a_teacher_of_its_own_distils_through_every_tier(
    cluster: None, model: Path, prompts: dict[str, np.ndarray], tmp_path: Path
) -> None:
    other = make_tiny_model(tmp_path / "other", seed=3)
    algorithm = {"kind": "opd", "teacher": {"path": "other"}, "divergence": 0.5, "top_k": 16}
    optimizer = {"learning_rate": 1e-3, "microbatch_tokens": 256}
    spec = job(model, algorithm=algorithm, privileged=None, optimizer=optimizer)

    async def run() -> list[dict[str, float]]:
        tiers = RayTiers(spec, model, tmp_path / "job", prompts, teacher_path=other)
        try:
            await tiers.start()
            await tiers.publish(0, to_teacher=spec.syncs_teacher(0))
            rolled = await side_by_side(tiers.generate(task, 4) for task in TASKS)
            groups = await side_by_side(tiers.verify(group) for group in rolled)
            evidence = await tiers.score(groups)
            return [await tiers.learn(groups, evidence, step) for step in range(4)]
        finally:
            await tiers.stop()

    first, *_, last = asyncio.run(run())
    assert first["taught_share"] == 1
    assert first["kl_start"] == pytest.approx(0, abs=1e-6)
    assert last["kl_start"] > 1e-6
    assert last["divergence"] < first["divergence"]
    batch = to_batch(read_step(step_paths(tmp_path / "job" / "traces")[0]))
    assert batch.top_ids is not None
    assert batch.top_ids.shape == (len(batch.engine_logprobs), 16)


def test_a_worker_error_reaches_the_caller_with_its_reason(cluster: None, tmp_path: Path) -> None:
    from trainer.group import GroupFailed, LearnerGroup, Placement

    class Breaking:
        def __init__(self, config: str) -> None:
            self.config = config

        def progress(self) -> int:
            return 0

        def double(self, number: int) -> int:
            return 2 * number

        def fail(self) -> None:
            raise ValueError(f"{self.config} is broken")

        def close(self) -> None:
            pass

    async def run() -> None:
        group = LearnerGroup(Breaking, "gearbox", Placement(workers=2, cpus=0.5), str(tmp_path))
        try:
            assert await group.call("double", 21, timeout=120) == [42, 42]
            with pytest.raises(GroupFailed, match="gearbox is broken"):
                await group.call("fail", timeout=120)
        finally:
            await group.close(10)

    asyncio.run(run())
