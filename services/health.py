"""Health of the tiers' actors: when one may work, when it is given up, how often it is replaced.

Pure state machines. Time is a number that the caller gives, so every transition can be tested;
who asks the actors, kills and starts them is services/replicas.py and services/learner_tier.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["starting", "stale", "serving", "lost"]
"""
starting  its process comes up
stale     it is up, and has not proven that it runs the newest weights
serving   it has; only now it is given work
lost      it is given up, for good: what takes its place is another, and starts anew

There is no way from `starting` to `serving`: an engine that was restarted has the weights of
the file, and would sample with them without a word.
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is taken for the death of an actor.

    `progress_s`: seconds that it may have work and get no further. `probe_failures`: times in
    a row that it does not answer. `request_failures`: requests in a row that fail in it.
    """

    progress_s: float
    probe_failures: int = 5
    request_failures: int = 3


class Progress:
    """Notices that a counter stands still while there is work."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._counter: int | None = None
        self._moved_at: float | None = None

    def heard(self, counter: int, now: float, *, busy: bool) -> None:
        """The counter stands here now. Without work it may stand still."""
        if not busy:
            self._moved_at = None
        elif counter != self._counter or self._moved_at is None:
            self._moved_at = now
        self._counter = counter

    def stalled(self, now: float) -> str | None:
        """That it made no progress within its deadline, in words; None if it did."""
        if self._moved_at is None or now - self._moved_at <= self._deadline_s:
            return None
        return f"it made no progress for {now - self._moved_at:.0f} s while it had work"


class Silence:
    """Counts the times in a row that somebody does not answer."""

    def __init__(self, most: int) -> None:
        self.times = 0
        self._most = most

    def heard(self) -> None:
        """It answered."""
        self.times = 0

    def again(self) -> bool:
        """It did not answer; whether it is to be given up for that now."""
        self.times += 1
        return self.times % self._most == 0


class Health:
    """One actor, from its start to its loss. `reason` says why it was lost."""

    def __init__(self, limits: Limits) -> None:
        self.state: State = "starting"
        self.reason = ""
        self.hung = False
        """Whether it was lost with a process that still lives, but goes nowhere."""
        self.proven: int | None = None
        """The policy version that it runs, once that is proven."""
        self._limits = limits
        self._progress = Progress(limits.progress_s)
        self._silence = Silence(limits.probe_failures)
        self._requests = 0

    def started(self) -> None:
        """Its process is up."""
        if self.state == "starting":
            self.state = "stale"

    def outdated(self) -> None:
        """There are newer weights than those it runs."""
        self.proven = None
        if self.state == "serving":
            self.state = "stale"

    def prove(self, version: int, newest: int) -> None:
        """It has proven that it runs this version; it serves if that is the newest."""
        if self.state == "stale" and version == newest:
            self.state, self.proven = "serving", version

    def answered(self, counter: int, now: float, *, busy: bool) -> None:
        """It answered a probe with its counter of progress."""
        self._silence.heard()
        self._progress.heard(counter, now, busy=busy)
        if stalled := self._progress.stalled(now):
            self.lose(stalled, hung=True)

    def silent(self) -> None:
        """It did not answer a probe."""
        if self._silence.again():
            self.lose(f"it did not answer {self._silence.times} times in a row", hung=True)

    def succeeded(self) -> None:
        """It did what a request asked. Says nothing of its probes."""
        self._requests = 0

    def failed(self, reason: str) -> None:
        """A request failed in it. Says nothing of its probes."""
        self._requests += 1
        if self._requests >= self._limits.request_failures:
            self.lose(f"{self._requests} requests in a row failed in it: {reason}")

    def lose(self, reason: str, *, hung: bool = False) -> None:
        """It is given up; the first reason stands."""
        if self.state != "lost":
            self.state, self.reason, self.proven, self.hung = "lost", reason, None, hung


class Restarts:
    """How often one tier may be restarted before it gets on, and how long to rest before each.

    Only what was never reached before is progress: a tier that dies again and again at the same
    place comes to its end, however far it goes back in between.
    """

    def __init__(self, limit: int = 5, first_rest_s: float = 0.5) -> None:
        """The rests double: 0, `first_rest_s`, 2 `first_rest_s`, ..."""
        self.limit, self.spent = limit, 0
        self._first_rest_s = first_rest_s
        self._reached = -1

    def take(self) -> float | None:
        """Seconds to rest before another restart; None when there have been too many."""
        if self.spent >= self.limit:
            return None
        self.spent += 1
        return 0.0 if self.spent == 1 else self._first_rest_s * 2 ** (self.spent - 2)

    def reached(self, step: int) -> None:
        """The job has done `step` steps."""
        if step > self._reached:
            self._reached, self.spent = step, 0
