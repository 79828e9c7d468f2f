"""Which jobs start: by priority, fair between tenants, and nobody is starved for ever."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.fit import Node
from services.jobs import Queued, WaitingRoom
from services.queue_order import OVERTAKEN, Cluster, in_turn, plan


def job(
    name: str, *, tenant: str = "a", priority: int = 0, cpus: float = 1, overtaken: int = 0
) -> Queued:
    """A job whose name ends with its place in the queue by age."""
    spec: dict[str, Any] = {
        "tiers": {"trainer": {"replicas": 1, "cpus": cpus, "gpus": 0.0, "labels": {}}}
    }
    return Queued(name, tenant, priority, int(name[-1]), overtaken, None, None, spec)


def cluster(free: float, total: float | None = None) -> Cluster:
    return Cluster([Node(free if total is None else total, 0, {})], [Node(free, 0, {})])


def room(*queued: Queued, **running: int) -> WaitingRoom:
    return WaitingRoom(queued, running, 0)


def started(room: WaitingRoom, cluster: Cluster, slots: int = 99) -> list[str]:
    return [start.job.id for start in plan(room, [], cluster, slots).starts]


def test_priority_goes_before_fairness_and_fairness_before_age() -> None:
    waiting = room(
        job("a1"), job("a2"), job("b3", tenant="b"), job("b4", tenant="b", priority=1), job("a5"),
        a=1,
    )  # fmt: skip
    assert started(waiting, cluster(9)) == ["b4", "a1", "b3", "a2", "a5"]
    assert started(waiting, cluster(9), slots=2) == ["b4", "a1"]


def test_tenants_of_one_priority_take_turns_however_much_one_queues() -> None:
    many = [job(f"a{n}") for n in range(8)]
    assert started(room(*many, job("b9", tenant="b")), cluster(3)) == ["a0", "b9", "a1"]


def test_a_small_job_overtakes_one_that_does_not_fit_but_not_for_ever() -> None:
    large, small = job("large1", cpus=4), job("small2")
    made = plan(room(large, small), [], cluster(2, total=4), slots=9)
    assert [(start.job.id, start.overtaken) for start in made.starts] == [("small2", ("large1",))]
    assert [hold.reason for hold in made.holds] == ["needs 4 CPUs for `trainer`; 2 are free"]

    patient = replace(large, overtaken=OVERTAKEN)
    made = plan(room(patient, small), [], cluster(2, total=4), slots=9)
    assert made.starts == []
    assert [hold.reason for hold in made.holds] == [
        "needs 4 CPUs for `trainer`; 2 are free",
        f"waits behind large1, which was overtaken {OVERTAKEN} times",
    ]


def test_a_job_that_the_empty_cluster_could_not_hold_stands_in_nobodys_way() -> None:
    hopeless = job("huge1", cpus=64, overtaken=99)
    made = plan(room(hopeless, job("small2")), [], cluster(2, total=4), slots=9)
    assert [(start.job.id, start.overtaken) for start in made.starts] == [("small2", ())]
    assert [(hold.job.id, hold.unfit) for hold in made.holds] == [("huge1", True)]


def test_the_clock_of_a_deadline_stands_still_behind_other_jobs_of_ours() -> None:
    made = plan(room(job("small1"), job("large2", cpus=4)), [], cluster(4), slots=9)
    assert [(hold.job.id, hold.unfit) for hold in made.holds] == [("large2", False)]
    # Somebody else takes what is missing: no job of ours will ever give it back.
    made = plan(room(job("large2", cpus=4)), [], cluster(2, total=4), slots=9)
    assert [(hold.job.id, hold.unfit) for hold in made.holds] == [("large2", True)]


jobs = st.lists(
    st.builds(
        Queued,
        st.uuids().map(str), st.sampled_from("abc"), st.integers(-2, 2), st.integers(0, 99),
        st.just(0), st.none(), st.none(), st.just({}),
    ),
    max_size=12,
    unique_by=lambda job: job.sequence,
)  # fmt: skip


@given(jobs, st.dictionaries(st.sampled_from("abc"), st.integers(0, 3)))
def test_every_job_has_its_turn_and_none_before_a_higher_priority(
    queued: list[Queued], running: dict[str, int]
) -> None:
    order = list(in_turn(queued, Counter(running)))
    assert sorted(job.id for job in order) == sorted(job.id for job in queued)
    assert [job.priority for job in order] == sorted((j.priority for j in queued), reverse=True)
    for tenant in "abc":
        mine = [job for job in order if job.tenant == tenant]
        assert mine == sorted(mine, key=lambda job: (-job.priority, job.sequence))
