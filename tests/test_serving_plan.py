"""Which models are loaded, refused and evicted: the decisions alone."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from services.serving_plan import (
    IN_USE_SECONDS,
    RETRY_SECONDS,
    Limits,
    Load,
    Loaded,
    Refuse,
    Room,
    Status,
    Step,
    Unload,
    Wanted,
    plan,
)

LIMITS = Limits(models=1, cpus=1, gpus=0, idle_seconds=300, load_seconds=600)
FREE = Room(cpus=2, gpus=0, all_cpus=2, all_gpus=0)
TAKEN = replace(FREE, cpus=0.5)
NOW = 10_000.0


def wanted(key: str, ago: float = 0.0) -> Wanted:
    return Wanted(key, f"model {key}", f"/models/{key}", NOW - ago)


def ready(status: Status = "ready", ago: float = 0.0, message: str = "") -> Loaded:
    return Loaded(status, NOW - ago, message)


def test_a_model_somebody_waits_for_is_loaded_once() -> None:
    assert plan([wanted("a")], {}, {}, [FREE], LIMITS, NOW) == [Load(wanted("a"))]
    for status in ("loading", "ready", "restarting"):
        assert plan([wanted("a")], {"a": ready(status)}, {}, [FREE], LIMITS, NOW) == []


def test_a_model_nobody_waits_for_any_more_is_not_loaded() -> None:
    assert plan([wanted("a", IN_USE_SECONDS + 1)], {}, {}, [FREE], LIMITS, NOW) == []


def test_an_idle_model_is_unloaded_and_one_in_use_stays() -> None:
    assert plan([], {"a": ready()}, {}, [FREE], LIMITS, NOW) == [Unload("a")]
    assert plan([wanted("a", 299)], {"a": ready()}, {}, [FREE], LIMITS, NOW) == []
    assert plan([wanted("a", 301)], {"a": ready()}, {}, [FREE], LIMITS, NOW) == [Unload("a")]


def test_what_failed_or_is_late_is_given_back_and_told() -> None:
    failed = {"a": ready("failed", message="no such folder")}
    assert plan([wanted("a")], failed, {}, [FREE], LIMITS, NOW) == [
        Unload("a"),
        Refuse("a", "no such folder"),
    ]
    unload, refuse = plan([wanted("a")], {"a": ready("loading", 601)}, {}, [FREE], LIMITS, NOW)
    assert unload == Unload("a")
    assert isinstance(refuse, Refuse)
    assert "not ready within 600 s" in refuse.reason


def test_a_refusal_holds_for_a_while() -> None:
    for ago, expected in ((RETRY_SECONDS - 1, []), (RETRY_SECONDS, [Load(wanted("a"))])):
        assert plan([wanted("a")], {}, {"a": NOW - ago}, [FREE], LIMITS, NOW) == expected


def test_what_does_not_fit_is_refused_with_what_is_missing() -> None:
    (step,) = plan([wanted("a")], {}, {}, [TAKEN], LIMITS, NOW)
    assert isinstance(step, Refuse)
    assert "needs 1 CPUs" in step.reason
    assert "at most 0.5 of 2 CPUs" in step.reason
    gpus = replace(LIMITS, gpus=2)
    (step,) = plan([wanted("a")], {}, {}, [FREE, replace(FREE, gpus=1, all_gpus=8)], gpus, NOW)
    assert isinstance(step, Refuse)
    assert "1 of 8 GPUs" in step.reason


def test_room_on_two_nodes_is_no_room_for_one_model() -> None:
    (step,) = plan([wanted("a")], {}, {}, [TAKEN, TAKEN], LIMITS, NOW)
    assert isinstance(step, Refuse)


def test_an_idle_model_makes_way_and_one_in_use_does_not() -> None:
    loaded = {"old": ready()}
    idle = [wanted("new"), wanted("old", IN_USE_SECONDS + 1)]
    for nodes in ([FREE], [TAKEN]):
        assert plan(idle, loaded, {}, nodes, LIMITS, NOW) == [Unload("old")]
    leaving = {"old": ready("leaving")}
    assert plan(idle, leaving, {}, [TAKEN], LIMITS, NOW) == [], "what leaves is waited for"
    used = [wanted("new"), wanted("old", 1)]
    (step,) = plan(used, loaded, {}, [FREE], LIMITS, NOW)
    assert isinstance(step, Refuse)
    assert "model old" in step.reason


def test_nothing_makes_way_for_a_model_that_fits_no_node() -> None:
    large = replace(LIMITS, models=2, cpus=3)
    (step,) = plan([wanted("new"), wanted("old", 100)], {"old": ready()}, {}, [FREE], large, NOW)
    assert isinstance(step, Refuse)


@given(
    ages=st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1000)),
    states=st.dictionaries(
        st.sampled_from("abcd"),
        st.tuples(
            st.sampled_from(["loading", "ready", "restarting", "failed", "leaving"]),
            st.floats(0, 1000),
        ),
    ),
    models=st.integers(1, 3),
    free=st.floats(0, 4),
)
def test_no_plan_contradicts_itself_or_exceeds_the_limit(
    ages: dict[str, float], states: dict[str, tuple[Status, float]], models: int, free: float
) -> None:
    limits = replace(LIMITS, models=models)
    loaded = {key: ready(status, ago) for key, (status, ago) in states.items()}
    steps: list[Step] = plan(
        [wanted(key, ago) for key, ago in ages.items()],
        loaded,
        {},
        [Room(free, 0, 4, 0)],
        limits,
        NOW,
    )
    loads = [step.model.key for step in steps if isinstance(step, Load)]
    unloads = [step.key for step in steps if isinstance(step, Unload)]
    assert not set(loads) & set(loaded)
    assert set(unloads) <= set(loaded)
    assert len(unloads) == len(set(unloads))
    assert not loads or len(loaded) + len(loads) <= models
