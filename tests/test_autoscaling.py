"""When a tier grows and shrinks, by a clock of the test's own."""

from hypothesis import given
from hypothesis import strategies as st

from services.autoscaling import Autoscaler, Bounds, Load

BUSY = Load(waiting=50, in_hand=8, workers=2)
STEADY = Load(waiting=2, in_hand=8, workers=8)
IDLE = Load(waiting=0, in_hand=0, workers=8)


def scaler() -> Autoscaler:
    return Autoscaler(waiting_per_worker=4, grow_after_s=5, shrink_after_s=60)


def test_a_queue_that_stays_high_adds_one_replica_at_a_time():
    policy, bounds = scaler(), Bounds(1, 4)
    assert [policy.target(now, 1, bounds, BUSY) for now in (0, 4, 5)] == [1, 1, 2]
    assert [policy.target(now, 2, bounds, BUSY) for now in (6, 10, 11)] == [2, 2, 3]
    assert policy.target(60, 4, bounds, BUSY) == 4
    assert policy.target(600, 4, bounds, BUSY) == 4


def test_a_queue_that_is_high_for_a_moment_adds_none():
    policy, bounds = scaler(), Bounds(1, 4)
    assert [policy.target(now, 1, bounds, BUSY) for now in (0, 4)] == [1, 1]
    assert policy.target(4.5, 1, bounds, STEADY) == 1
    assert [policy.target(now, 1, bounds, BUSY) for now in (5, 9)] == [1, 1]


def test_what_is_idle_for_long_goes_down_to_the_least_and_no_further():
    policy, bounds = scaler(), Bounds(1, 4)
    assert [policy.target(now, 3, bounds, IDLE) for now in (0, 59, 60)] == [3, 3, 2]
    assert [policy.target(now, 2, bounds, IDLE) for now in (61, 120, 121)] == [2, 2, 1]
    assert [policy.target(now, 1, bounds, IDLE) for now in (122, 1000)] == [1, 1]


def test_work_in_hand_that_needs_every_replica_keeps_them():
    policy = scaler()
    full = Load(waiting=0, in_hand=7, workers=8)
    assert {policy.target(now, 2, Bounds(1, 4), full) for now in range(0, 600, 10)} == {2}


def test_bounds_hold_at_once():
    assert scaler().target(0, 0, Bounds(2, 4), Load(0, 0, 0)) == 2
    assert scaler().target(0, 6, Bounds(2, 4), BUSY) == 4


@given(
    st.lists(st.tuples(st.floats(0.1, 50), st.integers(0, 200), st.integers(0, 50)), max_size=60),
    st.integers(1, 5),
    st.integers(0, 5),
)
def test_it_never_leaves_its_bounds_nor_jumps(
    moments: list[tuple[float, int, int]], least: int, more: int
):
    policy, bounds, now, replicas = scaler(), Bounds(least, least + more), 0.0, least
    for seconds, waiting, in_hand in moments:
        now += seconds
        target = policy.target(now, replicas, bounds, Load(waiting, in_hand, 2 * replicas))
        assert bounds.least <= target <= bounds.most
        assert abs(target - replicas) <= 1
        replicas = target
