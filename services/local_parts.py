"""The parts of the local service: processes that are started again when they die.

A part that dies is started again after a pause that doubles while it keeps dying soon; one
that has died too often in a row is given up, and the service with it. Knows nothing of what
the parts do.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from services.errors import CannotStart

STEADY_SECONDS = 15.0
"""A process that lived so long does not count as dying in a row."""
MOST_DEATHS = 8
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 20.0

Tell = Callable[[str], None]


@dataclass(slots=True)
class Backoff:
    """How long to wait before a process is started again. Pure."""

    deaths: int = 0

    def after(self, lived_s: float) -> float | None:
        """Seconds to wait after a process that lived so long; None when it is to be given up."""
        self.deaths = 1 if lived_s >= STEADY_SECONDS else self.deaths + 1
        if self.deaths > MOST_DEATHS:
            return None
        return min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** (self.deaths - 1))


@dataclass(frozen=True, slots=True)
class Running:
    """A process that was started, where it writes, and how it is ended well.

    `was_late` tells of one that ended while it started whether it was only too slow, by a
    deadline of its own: another try may do.
    """

    process: subprocess.Popen[bytes]
    log: Path
    stop: Callable[[], object]
    was_late: Callable[[], bool] = lambda: False


class Part:
    """One process of the service. `start` starts it, for the first time and again."""

    def __init__(self, name: str, start: Callable[[], Running]) -> None:
        """Start it."""
        self.name = name
        self._start = start
        self._backoff = Backoff()
        self._due: float | None = None
        self._started_at = time.monotonic()
        self._running = start()

    @property
    def dead(self) -> bool:
        """Whether its process has ended."""
        return self._running.process.poll() is not None

    @property
    def last_words(self) -> str:
        """How it ended."""
        log = self._running.log
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        said = f": {lines[-1]}" if lines else ""
        return f"ended by itself with status {self._running.process.returncode}{said} (see {log})"

    @property
    def was_late(self) -> bool:
        """Whether it ended because its start took longer than it allows itself."""
        return self._running.was_late()

    def stop(self) -> None:
        """End it well."""
        self._running.stop()

    def kill(self) -> None:
        """End it at once."""
        self._running.process.kill()

    def start_again(self) -> None:
        """Start it, once what is left of it is ended. Raises CannotStart."""
        self._due, self._started_at = None, time.monotonic()
        self._running = self._start()

    def revive(self, tell: Tell) -> bool:
        """Look after it; call this again and again. False when it is to be given up."""
        if not self.dead:
            return True
        if self._due is None:
            pause = self._backoff.after(time.monotonic() - self._started_at)
            if pause is None:
                tell(f"{self.name} {self.last_words}; given up after {MOST_DEATHS} starts")
                return False
            tell(f"{self.name} {self.last_words}; starting it again in {pause:g} s")
            self._due = time.monotonic() + pause
        elif time.monotonic() >= self._due:
            try:
                self.start_again()
            except CannotStart as error:
                tell(f"{self.name} does not start again: {error}")
            else:
                tell(f"{self.name} is started again")
        return True
