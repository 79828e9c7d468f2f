"""A worker whose judge does what the text says: what a hole in a judge would let happen.

`boot` is what `process` starts instead of a worker; everything else about it is real.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from typing import Any

from verifiers import process, worker
from verifiers.verdict import Verdict

_JUDGE = worker.judge


def boot() -> str:
    """The source that starts this worker."""
    start = "from verifiers.worker import main; main()"
    assert start in process._BOOT  # pyright: ignore[reportPrivateUsage]
    odd = "import tests.verifiers.odd_worker as odd; odd.main()"
    return process._BOOT.replace(start, odd)  # pyright: ignore[reportPrivateUsage]


def main() -> None:
    """The worker, with another judge."""
    worker.judge = _judge
    worker.prepare = _prepare
    worker.main()


def _judge(spec: Any, completion: str) -> Verdict:
    if completion.startswith("run:"):
        space: dict[str, Any] = {}
        exec(completion.removeprefix("run:"), space)
        return Verdict(0.0, "wrong", {"found": str(space["found"])})
    if completion.startswith("die:"):
        _die(completion.removeprefix("die:"))
    return _JUDGE(spec, completion)


def _prepare(spec: Any) -> None:
    if spec.kind == "sql" and spec.query.startswith("die:"):
        _die(spec.query.removeprefix("die:"))


def _die(how: str) -> None:
    if how == "segfault":
        ctypes.string_at(0)
    elif how == "abort":
        os.abort()
    elif how == "overflow":
        sys.setrecursionlimit(10**9)
        one: Any = None
        other: Any = None
        for _ in range(10**5):
            one, other = [one], [other]
        assert one == other
    elif how == "leave":
        os._exit(3)
    elif how == "waiting":
        time.sleep(600)
