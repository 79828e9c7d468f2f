"""The shared queue: nothing lost, nobody starved, in each job's own order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.fair_queue import FairQueue, QueueFull

ASKED = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 50)), max_size=60)


@given(ASKED)
def test_everything_comes_out_once_and_each_job_keeps_its_order(asked: list[tuple[str, int]]):
    queue: FairQueue[int] = FairQueue(quantum=8, bound=100)
    for number, (job, cost) in enumerate(asked):
        queue.push(job, cost, number)
    assert (len(queue), queue.cost) == (len(asked), sum(cost for _, cost in asked))
    popped = [queue.pop() for _ in asked]
    assert sorted(n for n in popped if n is not None) == list(range(len(asked)))
    for job in "abc":
        own = [n for n in popped if n is not None and asked[n][0] == job]
        assert own == sorted(own)
    assert queue.pop() is None
    assert (len(queue), queue.cost) == (0, 0)


@given(st.integers(1, 20), st.integers(1, 20))
def test_jobs_that_wait_all_along_are_served_alike_whatever_their_groups_cost(
    small: int, large: int
):
    quantum = 16
    queue: FairQueue[tuple[str, int]] = FairQueue(quantum, bound=1000)
    for job, cost in (("small", small), ("large", large)):
        for _ in range(1000):
            queue.push(job, cost, (job, cost))
    served = {"small": 0, "large": 0}
    for _ in range(500):
        item = queue.pop()
        assert item is not None
        served[item[0]] += item[1]
        assert abs(served["small"] - served["large"]) <= 2 * quantum + small + large


def test_a_job_that_comes_late_does_not_wait_behind_everything_another_has_queued():
    queue: FairQueue[str] = FairQueue(quantum=4, bound=1000)
    for _ in range(1000):
        queue.push("greedy", 4, "greedy")
    queue.push("modest", 4, "modest")
    assert "modest" in [queue.pop() for _ in range(4)]


def test_a_line_is_bounded_for_each_job_alone():
    queue: FairQueue[int] = FairQueue(quantum=4, bound=2)
    queue.push("a", 1, 1)
    queue.push("a", 1, 2)
    with pytest.raises(QueueFull, match="job a has 2 requests waiting"):
        queue.push("a", 1, 3)
    queue.push("b", 1, 4)
    assert queue.remove("a", 1)
    assert not queue.remove("a", 1)
    queue.push("a", 1, 3)
    assert queue.cost == 3
    assert {queue.pop(), queue.pop(), queue.pop()} == {2, 3, 4}
