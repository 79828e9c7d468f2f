"""Facts about how idle tiers are."""

from __future__ import annotations

from services.idle import IdleClock


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_tier_is_busy_while_any_work_is_in_its_hands() -> None:
    clock = Clock()
    idle = IdleClock(["rollout", "trainer"], clock)
    with idle.busy("rollout"):
        clock.now = 2.0
        with idle.busy("rollout"):
            clock.now = 3.0
        clock.now = 6.0
    clock.now = 8.0
    assert idle.read().idle == {"rollout": 0.25, "trainer": 1.0}


def test_what_a_tier_has_in_hand_is_averaged_over_all_the_time() -> None:
    clock = Clock()
    idle = IdleClock(["rollout"], clock)
    with idle.busy("rollout", 8):
        clock.now = 2.0
        with idle.busy("rollout", 4):
            clock.now = 3.0
    clock.now = 4.0
    assert idle.read().in_hand == {"rollout": (2 * 8 + 1 * 12) / 4}
    clock.now = 5.0
    assert idle.read().in_hand == {"rollout": 0.0}


def test_work_that_goes_on_is_shared_between_readings() -> None:
    clock = Clock()
    idle = IdleClock(["rollout"], clock)
    clock.now = 1.0
    with idle.busy("rollout"):
        clock.now = 2.0
        assert idle.read().idle == {"rollout": 0.5}
        clock.now = 3.0
    clock.now = 4.0
    assert idle.read().idle == {"rollout": 0.5}
    assert idle.read().idle == {"rollout": 0.0}, "no time has passed"
