"""One run of code in the sandbox as the judge notes it: what passed, what failed, what it cost."""

from __future__ import annotations

import math
import re
import signal
from dataclasses import dataclass, field
from typing import Any

from verifiers.code_spec import CodeSpec
from verifiers.sandbox.policy import Limits
from verifiers.sandbox.supervisor import Ending
from verifiers.verdict import clip

UNPARSED = ("SyntaxError", "IndentationError", "TabError")
_WANTS_NUMPY = re.compile(
    r"^\s*(?:import|from)\s+(?:numpy|pandas|scipy)\b|\b(?:np|pd)\.", re.MULTILINE
)
_NUMPY_MEMORY = 2**30
"""Address space that numpy and pandas take up before any work."""


@dataclass(slots=True)
class Outcome:
    """What became of one run: tests passed, the first failure, and what it cost."""

    passed: int = 0
    failure: dict[str, Any] | None = None
    limit: str | None = None
    unparsed: bool = False
    endings: list[Ending] = field(default_factory=list[Ending])

    def fail(self, reason: str, output: str = "", **where: Any) -> None:
        """Note a failure; the first one is kept."""
        if self.failure is None:
            self.failure = {**where, "reason": clip(reason), "output": clip(output)}

    def fail_test(self, spec: CodeSpec, index: int, reason: str, output: str) -> None:
        """Note that one test failed."""
        if self.failure is None:
            self.fail(reason, output, failed=index, test=clip(spec.shown(index)))


def wants_numpy(*sources: str) -> bool:
    """Whether the code needs the zygote that has numpy loaded."""
    return any(_WANTS_NUMPY.search(source) for source in sources)


def limits(spec: CodeSpec, *, numpy: bool) -> Limits:
    """What each process of a run may use."""
    memory = spec.memory_mb * 2**20 + (_NUMPY_MEMORY if numpy else 0)
    return Limits(memory, math.ceil(spec.timeout_s))


def out_of_cpu(ending: Ending, bounds: Limits) -> bool:
    """Whether the kernel ended a process because it had used up its CPU time.

    It counts for this limit by ticks, which charge short turns of many threads too much.
    """
    killed = ending.code in (-signal.SIGKILL, -signal.SIGXCPU)
    return killed and ending.cpu_s >= 0.5 * bounds.cpu_s
