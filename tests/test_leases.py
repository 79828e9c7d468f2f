"""Leases of pools: granted once, by turns, to the least loaded pool that has room."""

from hypothesis import given
from hypothesis import strategies as st

from services.leases import Leases


def open_leases(**capacities: int) -> Leases:
    leases = Leases()
    for pool, capacity in capacities.items():
        leases.open(pool, capacity)
    return leases


def test_work_goes_to_the_least_loaded_pool_and_waits_when_all_are_full():
    leases = open_leases(a=4, b=8)
    for number in range(5):
        leases.ask(f"l{number}", "job", 4)
    assert dict(leases.grants()) == {"l0": "a", "l1": "b", "l2": "b"}
    assert (leases.waiting, leases.in_hand) == (8, 12)
    leases.give_back("l0")
    assert list(leases.grants()) == [("l3", "a")]


def test_a_group_larger_than_a_pool_is_still_one_message():
    leases = open_leases(a=4)
    leases.ask("large", "job", 100)
    leases.ask("next", "job", 1)
    assert list(leases.grants()) == [("large", "a")]
    leases.give_back("large")
    assert list(leases.grants()) == [("next", "a")]


def test_a_second_attempt_goes_elsewhere_if_there_is_an_elsewhere():
    leases = open_leases(a=4, b=4)
    leases.ask("busy", "job", 2, frozenset("a"))
    leases.ask("again", "job", 1, frozenset("a"))
    assert dict(leases.grants()) == {"busy": "b", "again": "b"}
    leases.shut("b")
    leases.ask("alone", "job", 1, frozenset("a"))
    assert list(leases.grants()) == [("alone", "a")]


def test_a_pool_that_is_shut_gets_no_more_and_what_it_had_no_longer_counts():
    leases = open_leases(a=4)
    leases.ask("l", "job", 4)
    assert list(leases.grants()) == [("l", "a")]
    leases.shut("a")
    assert leases.in_hand == 0
    leases.ask("m", "job", 1)
    assert list(leases.grants()) == []
    leases.open("b", 4)
    assert list(leases.grants()) == [("m", "b")]
    leases.give_back("l")
    leases.give_back("m")
    assert (leases.waiting, leases.in_hand) == (0, 0)


def test_a_job_that_is_gone_takes_its_requests_and_leases_along():
    leases = open_leases(a=4)
    for lease, job in (("g1", "gone"), ("g2", "gone"), ("s", "stays")):
        leases.ask(lease, job, 4)
    granted = dict(leases.grants())
    assert len(granted) == 1
    assert sorted(leases.forget("gone")) == ["g1", "g2"]
    assert {**granted, **dict(leases.grants())}["s"] == "a"
    assert leases.waiting == 0


@given(st.data())
def test_every_request_is_granted_exactly_once_and_everything_is_given_back(data: st.DataObject):
    leases = open_leases(a=4, b=16)
    held: set[str] = set()
    granted: set[str] = set()
    asked = 0
    for _ in range(data.draw(st.integers(0, 80))):
        if held and data.draw(st.booleans()):
            lease = data.draw(st.sampled_from(sorted(held)))
            held.remove(lease)
            leases.give_back(lease)
        else:
            leases.ask(f"l{asked}", data.draw(st.sampled_from("xyz")), data.draw(st.integers(1, 9)))
            asked += 1
        for lease, _ in leases.grants():
            assert lease not in granted
            granted.add(lease)
            held.add(lease)
        if leases.waiting:
            assert all(leases._pools[p].in_hand >= leases._pools[p].capacity for p in "ab")  # pyright: ignore[reportPrivateUsage]
    while held:
        leases.give_back(held.pop())
        for lease, _ in leases.grants():
            assert lease not in granted
            granted.add(lease)
            held.add(lease)
    assert len(granted) == asked
    assert (leases.waiting, leases.in_hand) == (0, 0)
