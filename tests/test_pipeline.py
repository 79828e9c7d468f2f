"""The loop itself: order of work, staleness, cleanup. The tiers are an in-memory stand-in
behind the loop's own seam; the real ones are tested in test_tiers.py."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from services.config import JobSpec
from services.pipeline import BEGINNING, Ended, Judged, Rolled, Sampled, Start, side_by_side, train
from services.saving import NotSaved
from trainer.records import Task

TASKS = [Task(f"t{n}", ({"role": "user", "content": "?"},), {"kind": "math"}) for n in range(5)]


class Bench:
    """Tiers and journal in memory: remembers what happened in which order."""

    def __init__(
        self, stale_once: bool = False, flat: Sequence[str] = (), disk_full_at: Sequence[int] = ()
    ) -> None:
        self.version = -1
        self.log: list[tuple[Any, ...]] = []
        self.learned_batches: list[tuple[int, list[str], list[int]]] = []
        self.cursors: list[Mapping[str, int]] = []
        self.running = 0
        self._stale_once = stale_once
        self._flat = flat
        self._disk_full_at = list(disk_full_at)

    async def generate(self, task: Task, count: int) -> Rolled:
        version, self.running = self.version, self.running + 1
        try:
            await asyncio.sleep(0.001)
        finally:
            self.running -= 1
        if self._stale_once and version == 1:
            self._stale_once, version = False, 0
        self.log.append(("generate", task.id, version))
        return Rolled(task, None, version, 10 * count)

    async def verify(self, rolled: Rolled) -> Judged:
        if rolled.task.id in self._flat:
            return Judged(rolled, None, (1.0, 1.0), ("correct", "correct"))
        return Judged(rolled, None, (1.0, 0.0), ("correct", "wrong"))

    async def score(self, groups: Sequence[Judged]) -> str:
        self.log.append(("score",))
        return "evidence"

    async def learn(self, groups: Sequence[Judged], evidence: Any, step: int) -> dict[str, float]:
        await asyncio.sleep(0.01)
        self.log.append(("learn", step, evidence))
        ids = [group.rolled.task.id for group in groups]
        self.learned_batches.append((step, ids, [group.rolled.version for group in groups]))
        return {"loss": 0.0}

    async def publish(self, version: int, *, to_teacher: bool) -> dict[str, float]:
        self.version = version
        self.log.append(("publish", version, to_teacher))
        return {}

    async def checkpoint(self, step: int, cursor: Mapping[str, int]) -> str:
        if step in self._disk_full_at:
            self._disk_full_at.remove(step)
            raise NotSaved("no space left")
        self.cursors.append(cursor)
        return f"checkpoint-{step}"

    async def phase(self, name: str, step: int) -> None:
        self.log.append(("phase", name, step))

    async def sampled(self, step: int, sampled: Sampled) -> None:
        self.log.append(("sampled", step, [group.rolled.task.id for group in sampled.groups]))

    async def learned(
        self,
        step: int,
        sampled: Sampled,
        metrics: Mapping[str, float],
        seconds: Mapping[str, float],
    ) -> None:
        names = sorted({*sampled.seconds, *seconds})
        self.log.append(("step", step, sampled.dropped, sampled.refilled, names))

    async def evaluated(self, step: int, judged: Sequence[Judged]) -> None:
        self.log.append(("evaluated", step, len(judged), self.version))

    async def saved(self, step: int, path: str) -> None:
        self.log.append(("saved", step, path))

    async def not_saved(self, step: int, reason: str) -> None:
        self.log.append(("not saved", step, reason))


def job(**changes: Any) -> JobSpec:
    """A small job of 4 steps with 2 groups a step."""
    data: dict[str, Any] = {
        "steps": 4,
        "model": {"path": "m"},
        "tasks": {"train": "train.jsonl", "holdout": "holdout.jsonl"},
        "algorithm": {"kind": "grpo"},
        "sampling": {"group_size": 2, "groups_per_step": 2},
    }
    for key, value in changes.items():
        data[key] = {**data.get(key, {}), **value} if isinstance(value, dict) else value
    return JobSpec.model_validate(data)


def run(
    spec: JobSpec,
    bench: Bench,
    start: Start = BEGINNING,
    pause: Callable[[], str | None] = lambda: None,
) -> Ended:
    async def asked() -> str | None:
        return pause()

    return asyncio.run(train(spec, bench, TASKS, TASKS[:3], bench, start, asked))


def test_strictly_on_policy_samples_every_batch_under_the_version_it_is_learned_at() -> None:
    bench = Bench()
    run(job(), bench)
    assert [(step, versions) for step, _, versions in bench.learned_batches] == [
        (step, [step, step]) for step in range(4)
    ]


@pytest.mark.parametrize("staleness", [1, 2, 3])
def test_rollouts_never_lag_more_versions_than_the_bound(staleness: int) -> None:
    bench = Bench()
    run(job(sampling={"max_staleness": staleness}), bench)
    lags = [step - v for step, _, versions in bench.learned_batches for v in versions]
    assert max(lags) <= staleness
    assert max(lags) >= 1, "with staleness allowed, sampling runs ahead of learning"


def test_the_sequence_of_tasks_does_not_depend_on_staleness() -> None:
    sequences = []
    for staleness in (0, 2):
        bench = Bench()
        run(job(sampling={"max_staleness": staleness}), bench)
        sequences.append([ids for _, ids, _ in bench.learned_batches])
    assert sequences[0] == sequences[1]


def test_a_group_beyond_the_bound_is_dropped_counted_and_sampled_again() -> None:
    bench = Bench(stale_once=True)
    run(job(), bench)
    assert [entry[2] for entry in bench.log if entry[0] == "step"] == [0, 1, 0, 0]
    assert all(v == step for step, _, versions in bench.learned_batches for v in versions)


def test_the_data_cursor_of_a_checkpoint_ends_with_the_batch_that_was_learned() -> None:
    cursors = []
    for staleness in (0, 3):
        bench = Bench()
        run(job(sampling={"max_staleness": staleness}, checkpoint={"every": 1}), bench)
        cursors.append([cursor["position"] for cursor in bench.cursors])
    assert cursors == [[2, 4, 6, 8], [2, 4, 6, 8]]


def test_held_out_tasks_are_judged_before_the_first_and_after_the_last_step() -> None:
    bench = Bench()
    assert run(job(), bench) == Ended(4, "checkpoint-4", None)
    assert [entry[1:] for entry in bench.log if entry[0] == "evaluated"] == [(0, 3, 0), (4, 3, 4)]


def test_the_teacher_scores_only_for_rlsd_and_is_synced_every_so_many_steps() -> None:
    bench = Bench()
    run(job(algorithm={"kind": "rlsd", "teacher": {"synced": 2}}), bench)
    published = [entry[1:] for entry in bench.log if entry[0] == "publish"]
    assert published == [(0, True), (1, False), (2, True), (3, False), (4, True)]
    assert ("learn", 0, "evidence") in bench.log

    bench = Bench()
    run(job(), bench)
    assert ("score",) not in bench.log
    assert ("learn", 0, None) in bench.log


def test_a_failing_phase_leaves_no_sampling_behind() -> None:
    class Failing(Bench):
        async def learn(
            self, groups: Sequence[Judged], evidence: Any, step: int
        ) -> dict[str, float]:
            raise RuntimeError("no learning today")

    async def scenario() -> int:
        bench = Failing()
        with pytest.raises(RuntimeError, match="no learning today"):
            await train(job(sampling={"max_staleness": 2}), bench, TASKS, [], bench)
        return bench.running

    assert asyncio.run(scenario()) == 0


def test_side_by_side_keeps_order_and_cancels_the_rest_on_the_first_error() -> None:
    ended: list[int] = []

    async def work(number: int) -> int:
        try:
            await asyncio.sleep(0.01 * (3 - number))
        finally:
            ended.append(number)
        if number == 1:
            raise ValueError("one failed")
        return number

    async def scenario() -> None:
        assert await side_by_side(work(n) for n in (0, 2)) == [0, 2]
        ended.clear()
        with pytest.raises(ValueError, match="one failed"):
            await side_by_side(work(n) for n in (0, 1, 2))
        assert sorted(ended) == [0, 1, 2]

    asyncio.run(scenario())


def refilled(flat: Sequence[str], rounds: int) -> tuple[list[list[str]], list[int]]:
    """The tasks each step learned from, and how many others it tried."""
    bench = Bench(flat=flat)
    run(job(algorithm={"kind": "grpo", "refills": rounds}), bench)
    tried = [entry[3] for entry in bench.log if entry[0] == "step"]
    return [ids for _, ids, _ in bench.learned_batches], tried


def test_groups_without_contrast_give_way_to_other_tasks() -> None:
    kept, none = refilled(["t0", "t1"], 0)
    assert {"t0", "t1"} & {task for ids in kept for task in ids}
    assert none == [0, 0, 0, 0]
    learned, tried = refilled(["t0", "t1"], 5)
    assert not {"t0", "t1"} & {task for ids in learned for task in ids}
    assert sum(tried) > 0
    assert all(len(set(ids)) == 2 for ids in learned)


def test_refilling_is_bounded_and_leaves_every_step_its_size() -> None:
    everything = [task.id for task in TASKS]
    learned, tried = refilled(everything, 1)
    assert tried == [2, 2, 2, 2], "one round for each of two groups"
    assert [len(ids) for ids in learned] == [2, 2, 2, 2]
    again, tried = refilled(everything, 9)
    assert tried == [len(TASKS) - len(set(ids)) for ids in again], "none is tried twice in a step"


def test_refilling_tries_the_same_tasks_again_when_a_job_is_repeated() -> None:
    assert refilled(["t0", "t3"], 2) == refilled(["t0", "t3"], 2)


def interrupted_at(step: int, spec: JobSpec) -> Bench:
    """A run that pauses after `step` steps, and the one that goes on from its checkpoint."""
    bench = Bench()
    reasons = iter([None] * (step - 1) + ["asked to"])
    ended = run(spec, bench, pause=lambda: next(reasons))
    assert ended == Ended(step, f"checkpoint-{step}", "asked to")
    assert [entry[1] for entry in bench.log if entry[0] == "saved"] == [step]
    start = Start(step, bench.cursors[-1], ended.folder, evaluated=False)
    assert run(spec, bench, start) == Ended(4, "checkpoint-4", None)
    return bench


@pytest.mark.parametrize("staleness", [0, 2])
def test_a_run_that_was_interrupted_sees_the_tasks_of_one_that_was_not(staleness: int) -> None:
    spec = job(sampling={"max_staleness": staleness}, algorithm={"kind": "rlsd"})
    whole = Bench()
    run(spec, whole)
    expected = [(step, ids) for step, ids, _ in whole.learned_batches]
    for step in (1, 2, 3):
        bench = interrupted_at(step, spec)
        assert [(step, ids) for step, ids, _ in bench.learned_batches] == expected
        assert [entry[1] for entry in bench.log if entry[0] == "evaluated"] == [0, 4]


def test_a_run_that_goes_on_publishes_its_version_and_makes_up_for_a_missed_evaluation() -> None:
    spec = job(evaluation={"every": 2})
    for evaluated, expected in ((False, [2, 4]), (True, [4])):
        bench = Bench()
        run(spec, bench, Start(2, {"n": 5, "seed": 0, "shuffle": 1, "position": 4}, "m", evaluated))
        assert [e[1] for e in bench.log if e[0] == "publish"] == [2, 3, 4]
        assert [e[1] for e in bench.log if e[0] == "evaluated"] == expected


def test_a_run_whose_last_checkpoint_is_there_learns_nothing_more() -> None:
    bench = Bench()
    cursor = {"n": 5, "seed": 0, "shuffle": 1, "position": 8}
    assert run(job(), bench, Start(4, cursor, "model")) == Ended(4, "model", None)
    assert bench.learned_batches == []
    assert [entry[1] for entry in bench.log if entry[0] == "evaluated"] == [4]


def test_a_cursor_of_other_tasks_is_refused() -> None:
    cursor = {"n": 6, "seed": 0, "shuffle": 1, "position": 4}
    with pytest.raises(ValueError, match="saved with n 6, this job has 5"):
        run(job(), Bench(), Start(2, cursor))


def test_a_request_to_pause_that_comes_with_the_last_step_is_too_late() -> None:
    bench = Bench()
    assert run(job(steps=1), bench, pause=lambda: "asked to") == Ended(1, "checkpoint-1", None)


def test_a_checkpoint_that_the_disk_refuses_is_tried_again_after_the_next_step() -> None:
    bench = Bench(disk_full_at=[2])
    assert run(job(checkpoint={"every": 2}), bench) == Ended(4, "checkpoint-4", None)
    told = [entry[:2] for entry in bench.log if entry[0] in ("saved", "not saved")]
    assert told == [("not saved", 2), ("saved", 3), ("saved", 4)]


def test_a_disk_that_stays_full_pauses_the_job_with_the_reason_and_the_last_good_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.saving.RETRY_SECONDS", 0.0)
    spec = job(steps=6, checkpoint={"every": 1})
    ended = run(spec, Bench(disk_full_at=[2, 3, 4]))
    assert (ended.step, ended.folder) == (4, "checkpoint-1")
    assert "no space left; make room, then resume" in str(ended.paused)
    at_the_end = run(spec, Bench(disk_full_at=[6, 6, 6]))
    assert (at_the_end.step, at_the_end.folder) == (6, "checkpoint-5")
    assert at_the_end.paused is not None
    assert run(spec, Bench(disk_full_at=[6, 6])) == Ended(6, "checkpoint-6", None)
