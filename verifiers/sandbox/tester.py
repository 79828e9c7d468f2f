"""The judge: runs the author's tests, in a process of its own, against a remote candidate.

What the tests compare is plain data in this process; see `candidate`. A name that the
tests use and do not define is a builtin, a standard module or the candidate's. Reports one
line a test to the supervisor.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import math
import sys
import types
from collections.abc import Sequence
from typing import Any, cast

from verifiers.sandbox.candidate import MODULE, Candidate, Remote
from verifiers.sandbox.exceptions import why
from verifiers.sandbox.protocol import Channel, decode

RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 1e-9, 1e-12
ALIASES = {"np": "numpy", "pd": "pandas"}
"""Names that every reader takes for a module: not the candidate's to define."""


class _Names(dict[str, Any]):
    """Globals of the tests: a name they lack is a module, or the candidate's."""

    def __init__(self, candidate: Candidate, entry_point: str) -> None:
        super().__init__()
        self._candidate, self._entry_point = candidate, entry_point

    def ask_for_entry_point(self) -> None:
        """Resolve it before anything asks for it: the question was sent with the code."""
        with contextlib.suppress(Exception):  # whoever names it is told
            self[self._entry_point]

    def __missing__(self, name: str) -> Any:
        if name != self._entry_point:
            if hasattr(builtins, name) or name.startswith("__"):
                raise KeyError(name)
            if name in sys.stdlib_module_names or name in ALIASES:
                self[name] = importlib.import_module(ALIASES.get(name, name))
                return self[name]
        try:
            value = self._candidate.resolve(name)
        except KeyError:
            raise KeyError(name) from None
        if isinstance(value, Remote):
            self[name] = value
        return value


def serve(judge: Channel, candidate_channel: Channel) -> None:
    """Run one job and report a frame a test, or why the code does not load. The whole life of
    the process."""
    job = judge.receive()
    candidate, entry_point = Candidate(candidate_channel), job["entry_point"]
    names = [entry_point] if entry_point and job["calls"] is None else []
    try:
        candidate.ahead(job["shared"], job["code"], names=names)
        candidate.load(job["shared"], job["code"])
    except Exception as error:
        judge.send({"unloaded": why(error), "output": candidate.printed})
        return
    if job["calls"] is not None:
        _calls(judge, candidate, entry_point, decode(job["calls"]))
    else:
        _asserts(judge, candidate, job)


def _calls(
    judge: Channel, candidate: Candidate, entry_point: str, calls: list[dict[str, Any]]
) -> None:
    for call in calls:
        try:
            reason = fault(candidate, entry_point, call["args"], call["kwargs"], call["expect"])
        except Exception as error:
            reason = why(error)
        judge.send({"passed": not reason, "reason": reason, "output": candidate.printed})


def fault(
    candidate: Candidate, name: str, args: Sequence[Any], kwargs: dict[str, Any], expect: Any
) -> str:
    """What is wrong with the result of a call; empty when nothing is. Raises what it raises."""
    result = candidate.named(name, args, kwargs)
    return "" if same(expect, result) else f"returned {show(result)}, expected {show(expect)}"


def same(expected: Any, result: Any) -> bool:
    """Whether a result is what the task file says, in JSON's terms.

    A tuple counts as a list; true is not 1; numbers are compared by value, with what was
    written as a fraction within a relative 1e-9.
    """
    if isinstance(expected, bool) or isinstance(result, bool) or expected is None:
        return type(expected) is type(result) and expected == result
    if isinstance(expected, int | float):
        if type(result) not in (int, float):
            return False
        if isinstance(expected, int):
            return expected == result
        try:
            return math.isclose(
                expected, result, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE
            )
        except OverflowError:
            return False
    if isinstance(expected, list):
        items = cast("list[Any]", expected)
        if type(result) not in (list, tuple):
            return False
        results = list(result)
        return len(items) == len(results) and all(map(same, items, results))
    if isinstance(expected, dict):
        fields = cast("dict[str, Any]", expected)
        if type(result) is not dict:
            return False
        found = cast("dict[Any, Any]", result)
        return fields.keys() == found.keys() and all(same(fields[k], found[k]) for k in fields)
    return type(expected) is type(result) and expected == result


def _asserts(judge: Channel, candidate: Candidate, job: dict[str, Any]) -> None:
    module = types.ModuleType(MODULE)
    sys.modules[MODULE] = module
    names = _Names(candidate, job["entry_point"])
    names["__name__"] = MODULE
    if job["entry_point"]:
        names.ask_for_entry_point()
    setup_fault = _run(job["setup"], names)
    for source, lacks_call in job["tests"]:
        reason = setup_fault or _run(source, names)
        if reason is None and lacks_call:
            reason = _run(f"check({job['entry_point']})", names)
        judge.send({"passed": reason is None, "reason": reason or "", "output": candidate.printed})


def _run(source: str, names: _Names) -> str | None:
    """Why the source did not run to its end, None when it did."""
    try:
        if source:
            exec(compile(source, "<test>", "exec"), names)
    except BaseException as error:  # a test that exits has not passed
        return why(error)
    return None


def show(value: Any) -> str:
    """A value as a person reads it, of bounded length."""
    try:
        return repr(value)[:200]
    except Exception as error:
        return f"a value that cannot be shown ({type(error).__name__})"
