"""A bounded queue that many jobs share: deficit round robin, so that none starves another.

Each job has a line of its own. In its turn a job may spend what it saved plus a quantum;
what something costs is the caller's to say. A job that asks for a lot waits for itself, not
the others for it. Pure; knows nothing of verifiers.
Source: Shreedhar and Varghese, Efficient Fair Queuing using Deficit Round Robin (1995).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class QueueFull(RuntimeError):
    """A job has as much waiting as it may have."""


class FairQueue(Generic[T]):
    """Items of several jobs, taken in turns of about `quantum` cost.

    A job may have `bound` items waiting.
    """

    def __init__(self, quantum: int, bound: int) -> None:
        if quantum < 1 or bound < 1:
            raise ValueError("a fair queue needs a quantum and a bound above zero")
        self._quantum, self._bound = quantum, bound
        self._lines: OrderedDict[str, deque[tuple[int, T]]] = OrderedDict()
        self._saved: dict[str, int] = {}
        self.cost = 0
        """What everything that waits costs together."""

    def __len__(self) -> int:
        return sum(len(line) for line in self._lines.values())

    def push(self, job: str, cost: int, item: T) -> None:
        """Put an item at the end of its job's line. Raises QueueFull."""
        line = self._lines.setdefault(job, deque())
        if len(line) >= self._bound:
            raise QueueFull(f"job {job} has {self._bound} requests waiting and may not have more")
        line.append((cost, item))
        self.cost += cost

    def pop(self) -> T | None:
        """The item whose turn it is; None when nothing waits."""
        while self._lines:
            job, line = next(iter(self._lines.items()))
            cost, item = line[0]
            if self._saved.setdefault(job, 0) < cost:
                self._saved[job] += self._quantum
                self._lines.move_to_end(job)
                continue
            line.popleft()
            self._saved[job] -= cost
            self.cost -= cost
            if not line:  # who has nothing to ask for saves nothing
                self._forget(job)
            return item
        return None

    def remove(self, job: str, item: T) -> bool:
        """Take back an item that waits; False when it does not wait."""
        line = self._lines.get(job, deque())
        for entry in line:
            if entry[1] == item:
                line.remove(entry)
                self.cost -= entry[0]
                if not line:
                    self._forget(job)
                return True
        return False

    def _forget(self, job: str) -> None:
        del self._lines[job]
        del self._saved[job]
