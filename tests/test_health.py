"""The state machines of health: every transition, and those that must not exist."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.health import Health, Limits, Progress, Restarts

LIMITS = Limits(progress_s=60, probe_failures=3, request_failures=2)

EVENTS: dict[str, Callable[[Health], None]] = {
    "started": Health.started,
    "outdated": Health.outdated,
    "proves the newest": lambda health: health.prove(7, 7),
    "proves an older one": lambda health: health.prove(6, 7),
    "answers": lambda health: health.answered(0, 0.0, busy=True),
    "is silent": Health.silent,
    "succeeds": Health.succeeded,
    "fails": lambda health: health.failed("no memory"),
    "dies": lambda health: health.lose("killed"),
}
histories = st.lists(st.sampled_from(sorted(EVENTS)), max_size=30)


def after(history: list[str]) -> Health:
    health = Health(LIMITS)
    for name in history:
        EVENTS[name](health)
    return health


@given(histories)
def test_an_actor_serves_only_with_the_newest_weights_proven_since_its_start(
    history: list[str],
) -> None:
    health = Health(LIMITS)
    proven = up = False
    for name in history:
        EVENTS[name](health)
        up |= name == "started"
        if name == "outdated":
            proven = False
        elif name == "proves the newest":
            proven |= up
        assert health.state != "serving" or (up and proven)
        assert (health.state == "serving") == (health.proven == 7)


@given(histories)
def test_a_lost_actor_stays_lost_and_its_first_reason_stands(history: list[str]) -> None:
    health = after(["started", "dies", *history])
    assert (health.state, health.reason) == ("lost", "killed")


@given(histories)
def test_failed_requests_and_unanswered_probes_are_counted_apart(history: list[str]) -> None:
    health = Health(LIMITS)
    probes = requests = 0
    for name in history:
        EVENTS[name](health)
        probes = {"answers": 0, "is silent": probes + 1}.get(name, probes)
        requests = {"succeeds": 0, "fails": requests + 1}.get(name, requests)
        if name == "dies" or health.state == "lost":
            break
        assert probes < LIMITS.probe_failures
        assert requests < LIMITS.request_failures
    if health.state == "lost" and "dies" not in history:
        assert probes == LIMITS.probe_failures or requests == LIMITS.request_failures


def test_two_silences_and_one_failure_are_no_death() -> None:
    history = ["started", "proves the newest", "is silent", "fails", "is silent"]
    assert after(history).state == "serving"
    assert "3 times in a row" in after([*history, "is silent"]).reason
    assert "no memory" in after([*history, "fails"]).reason
    assert after([*history, "answers", "is silent", "succeeds", "fails"]).state == "serving"


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 50), st.booleans()), max_size=40))
def test_a_counter_that_stands_still_is_a_stall_only_while_there_is_work(
    heard: list[tuple[int, float, bool]],
) -> None:
    progress, now = Progress(60), 0.0
    since: float | None = None  # when the counter last moved, or work came
    last: int | None = None
    for counter, passed, busy in heard:
        now += passed
        progress.heard(counter, now, busy=busy)
        if not busy:
            since = None
        elif counter != last or since is None:
            since = now
        last = counter
        assert (progress.stalled(now) is not None) == (since is not None and now - since > 60)
        assert progress.stalled(now + 61) is None or busy


def test_an_actor_without_progress_is_lost_at_its_deadline() -> None:
    health = Health(LIMITS)
    health.started()
    health.answered(5, 0, busy=True)
    health.answered(5, 60, busy=True)
    assert health.state == "stale"
    health.answered(5, 61, busy=True)
    assert (health.state, health.reason) == (
        "lost",
        "it made no progress for 61 s while it had work",
    )


@given(st.integers(0, 9), st.lists(st.one_of(st.none(), st.integers(0, 5)), max_size=60))
def test_restarts_between_two_steps_that_are_new_are_bounded(
    limit: int, history: list[int | None]
) -> None:
    """A number is a step that is reached, None a restart that is asked for."""
    restarts = Restarts(limit)
    granted, best = 0, -1
    for item in history:
        if item is None:
            granted += restarts.take() is not None
        elif item > best:
            granted, best = 0, item
            restarts.reached(item)
        else:
            restarts.reached(item)
        assert granted <= limit


def test_each_restart_waits_longer_than_the_one_before() -> None:
    restarts = Restarts(5, first_rest_s=0.5)
    assert [restarts.take() for _ in range(6)] == [0.0, 0.5, 1.0, 2.0, 4.0, None]
    restarts.reached(0)
    assert restarts.take() == pytest.approx(0.0)
    restarts.reached(0)
    assert restarts.take() == pytest.approx(0.5), "the same step once more is no progress"
