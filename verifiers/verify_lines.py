"""Verdicts for a stream of JSON lines: the whole of `strop verify`, without its options.

    in    {"id": ..., "verifier": {"kind": "math", ...}, "completion": "..."}
    out   {"id": ..., "score": 1.0, "status": "correct", "evidence": {...}, "cpu_ms": ..., "wall_ms": ...}

One verdict line for each line that is not blank, in input order, written as soon as those
before it are known; at most `window` lines are held, so a stream of any length passes
through. A line that is no such case gets `{"id": ..., "error": "..."}` in its place: an
error of the file's, which is no verdict. Knows no Ray and no service.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from queue import Queue
from typing import Any, TextIO

from verifiers import strict_json
from verifiers.databases import Folder
from verifiers.pool import WorkerPool
from verifiers.spec import SpecError
from verifiers.strict_json import StrictJsonError
from verifiers.verdict import Verdict

_NO_UTF8 = re.compile("[\\udc80-\\udcff]")
"""What `surrogateescape` makes of bytes that are no UTF-8."""
FIELDS = frozenset(("id", "verifier", "completion"))


@dataclass(slots=True)
class Tally:
    """How many lines were judged, were judged correct, were our fault, and were no cases."""

    judged: int = 0
    correct: int = 0
    infra_errors: int = 0
    errors: int = 0

    @property
    def clean(self) -> bool:
        """Whether every line has a verdict with a score."""
        return self.infra_errors == self.errors == 0


class LineError(ValueError):
    """A line that is no case; the message says why."""


def verify(lines: Iterable[str], output: TextIO, pool: WorkerPool, *, window: int = 256) -> Tally:
    """Judge every line in the pool and write the verdict lines in order.

    Raises PoolError when the pool cannot serve, and OSError when `output` cannot be written.
    """
    writer = _Writer(output, window)
    try:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                writer.put(*_start(number, line, pool))
    finally:
        writer.close()
    return writer.tally


class _Writer:
    """Writes verdicts in order from a thread of its own, so that none waits for more input."""

    def __init__(self, output: TextIO, window: int) -> None:
        self.tally = Tally()
        self._output = output
        self._waiting: Queue[tuple[Any, Future[Verdict] | str] | None] = Queue(window)
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._write, name="verdict-writer", daemon=True)
        self._thread.start()

    def put(self, name: Any, outcome: Future[Verdict] | str) -> None:
        """Hand over the next outcome; waits while `window` are ahead of it."""
        if self._failure is not None:
            raise self._failure
        self._waiting.put((name, outcome))

    def close(self) -> None:
        """Wait for everything to be written. Raises what kept it from being written."""
        self._waiting.put(None)
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _write(self) -> None:
        while (item := self._waiting.get()) is not None:
            if self._failure is not None:
                continue  # the reader must not wait for room in the queue
            try:
                _finish(*item, self._output, self.tally)
                if self._waiting.empty():
                    self._output.flush()
            except Exception as error:  # handed to the thread that reads
                self._failure = error
        if self._failure is None:
            try:
                self._output.flush()
            except OSError as error:
                self._failure = error


def verify_with(
    lines: Iterable[str],
    output: TextIO,
    *,
    workers: int = 2,
    databases: Sequence[Folder] | None = None,
) -> Tally:
    """`verify` in a pool of its own; `databases` are folders whose files SQL specs may name, all of them when it is None."""
    with WorkerPool(workers, databases=databases) as pool:
        return verify(lines, output, pool, window=max(256, 8 * workers))


def _start(number: int, line: str, pool: WorkerPool) -> tuple[Any, Future[Verdict] | str]:
    name: Any = None
    try:
        if number == 1:
            line = line.removeprefix("\ufeff")  # what some editors put before UTF-8
        if not line.isascii() and _NO_UTF8.search(line):
            raise LineError("is not UTF-8")
        case = strict_json.loads(line, surrogates=True)
        if not isinstance(case, dict):
            raise LineError("is no JSON object")
        name = case.get("id")
        spec, completion = _case(case)
        return name, pool.submit(spec, completion)
    except (LineError, SpecError, StrictJsonError) as error:
        return name, f"line {number}: {error}"


def _case(case: dict[str, strict_json.Json]) -> tuple[dict[str, Any], str]:
    unknown = sorted(set(case) - FIELDS)
    if unknown:
        raise LineError(f"has the unknown field {unknown[0]!r}")
    spec, completion = case.get("verifier"), case.get("completion")
    if not isinstance(spec, dict):
        raise LineError("has no object `verifier`")
    if not isinstance(completion, str):
        raise LineError("has no text `completion`")
    return spec, completion


def _finish(name: Any, outcome: Future[Verdict] | str, output: TextIO, tally: Tally) -> None:
    if isinstance(outcome, str):
        tally.errors += 1
        data: dict[str, Any] = {"id": name, "error": outcome}
    else:
        verdict = outcome.result()
        tally.judged += 1
        tally.correct += verdict.status == "correct"
        tally.infra_errors += verdict.status == "infra_error"
        data = {"id": name, **asdict(verdict)}
    line = strict_json.dumps(data)
    # A lone surrogate in the evidence has no UTF-8; a question mark stands for it.
    output.write(line.encode("utf-8", "replace").decode() + "\n")
