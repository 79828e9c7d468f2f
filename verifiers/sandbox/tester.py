"""The judge: runs the author's tests, in a process of its own, against a remote candidate.

The candidate's functions are stand-ins that send plain data and decode plain data. Every
comparison is made here, by this interpreter's own builtins on exact builtin types; an
object that is no plain data can be passed back and looked into, but it is never equal to
a value and has no truth of its own. Reports one line a test to the supervisor.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import math
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, cast

from verifiers.sandbox.protocol import Channel, ProtocolError, decode, encode

MODULE = "tests"
MAX_REASON = 500
RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 1e-9, 1e-12


class CandidateGoneError(Exception):
    """The candidate's process ended or broke the protocol; no test can pass any more."""


class CandidateError(Exception):
    """The candidate raised something that is no builtin exception."""


class Candidate:
    """The other end of the channel. After the first fault every call fails."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._callbacks: list[Callable[..., Any]] = []
        self._fault: str | None = None
        """Why no call can succeed any more."""
        self.printed = ""

    def load(self, shared: str, code: str) -> None:
        """Have the candidate's code executed. Raises what it raises."""
        self._request("load", shared, code)

    def resolve(self, name: str) -> Any:
        """The candidate's global of this name. Raises KeyError when it has none."""
        return self._value(self._request("resolve", name))

    def call(self, target: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """The result of a call; mutable arguments change as the candidate changed them."""
        reply = self._operate("call", (target, *arguments), keywords)
        value = self._value(reply)
        for index, new in reply.get("changed", ()):
            if type(index) is not int or not 0 <= index < len(arguments):
                raise self._gone("it changed an argument that there is not")
            _overwrite(arguments[index], self._value({"value": new}))
        return value

    def operate(self, operation: str, *arguments: Any) -> Any:
        """The result of one of the guest's operations."""
        return self._value(self._operate(operation, arguments, {}))

    def _operate(self, operation: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        return self._request(operation, encode([list(arguments), keywords], self._tag))

    def _request(self, *request: Any) -> dict[str, Any]:
        if self._fault is not None:
            raise CandidateGoneError(self._fault)
        try:
            self._channel.send(request)
            while True:
                received = self._channel.receive()
                if type(received) is not dict:
                    raise ProtocolError("a reply that is no object")
                reply = cast("dict[str, Any]", received)
                if "callback" not in reply:
                    break
                self._channel.send(self._called_back(reply["callback"], reply.get("arguments")))
        except TimeoutError:  # whoever keeps a deadline hears of it
            raise
        except (ProtocolError, EOFError, OSError) as error:
            raise self._gone(str(error)) from None
        if "error" in reply:
            raise self._error(reply)
        return reply

    def _called_back(self, key: Any, arguments: Any) -> Any:
        values = decode(arguments, self._resolve)
        if type(key) is not int or not 0 <= key < len(self._callbacks) or type(values) is not list:
            raise ProtocolError("a call of a function that was not handed over")
        return encode(self._callbacks[key](*cast("list[Any]", values)), self._tag)

    def _value(self, reply: dict[str, Any]) -> Any:
        try:
            return decode(reply.get("value"), self._resolve)
        except ProtocolError as error:
            raise self._gone(str(error)) from None

    def _gone(self, reason: str) -> CandidateGoneError:
        self._fault = self._fault or f"the candidate is gone: {reason}"[:MAX_REASON]
        return CandidateGoneError(self._fault)

    def _error(self, reply: dict[str, Any]) -> Exception:
        printed = reply.get("output")
        self.printed = printed[-MAX_REASON:] if type(printed) is str else ""
        match reply["error"]:
            case [str(name), [*known], str(message)]:
                for kind_name in known:
                    kind = getattr(builtins, str(kind_name), None)
                    if kind is Exception:
                        break
                    if isinstance(kind, type) and issubclass(kind, Exception):
                        try:
                            return kind(message[:MAX_REASON])
                        except TypeError:  # a kind that needs more than a message
                            continue
                return CandidateError(f"{name[:80]}: {message[:MAX_REASON]}")
            case _:
                return self._gone("an error that is none")

    def _tag(self, value: Any) -> dict[str, Any]:
        if isinstance(value, Remote):
            return {"handle": value._key}
        kind = cast("type[object]", type(value))
        if kind.__module__ == MODULE and hasattr(value, "__dict__"):
            return {
                "object": [
                    kind.__name__,
                    encode({**vars(cast("object", value))}, self._tag, depth=2),
                ]
            }
        if callable(value):
            self._callbacks.append(value)
            return {"callback": len(self._callbacks) - 1}
        raise ProtocolError(f"a {type(value).__name__} cannot be handed to the candidate")

    def _resolve(self, tag: str, body: Any) -> Any:
        if tag != "handle" or type(body) is not int:
            raise ProtocolError(f"unknown tag {tag[:20]!r}")
        return Remote(self, body)


class Remote:
    """An object of the candidate's. Not equal to any value, without truth or hash."""

    def __init__(self, candidate: Candidate, key: int) -> None:
        object.__setattr__(self, "_candidate", candidate)
        object.__setattr__(self, "_key", key)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._candidate.call(self, arguments, keywords)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._candidate.operate("getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._candidate.operate("setattr", self, name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._candidate.operate("getitem", self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._candidate.operate("setitem", self, key, value)

    def __contains__(self, value: Any) -> bool:
        raise TypeError("an object of the candidate's is not searched: only plain data is")

    def __len__(self) -> int:
        return int(self._candidate.operate("len", self))

    def __iter__(self) -> Iterator[Any]:
        iterator = self._candidate.operate("iter", self)
        while True:
            try:
                yield self._candidate.operate("next", iterator)
            except StopIteration:
                return

    def __next__(self) -> Any:
        return self._candidate.operate("next", self)

    def __str__(self) -> str:
        return str(self._candidate.operate("str", self))

    def __repr__(self) -> str:
        return str(self._candidate.operate("repr", self))

    def __eq__(self, other: object) -> bool:
        raise TypeError("an object of the candidate's is not compared: only plain data is")

    def __ne__(self, other: object) -> bool:
        raise TypeError("an object of the candidate's is not compared: only plain data is")

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise TypeError("an object of the candidate's is neither true nor false")


class _Names(dict[str, Any]):
    """Globals of the tests: a name they lack is a standard module, or the candidate's."""

    def __init__(self, candidate: Candidate, entry_point: str) -> None:
        super().__init__()
        self._candidate, self._entry_point = candidate, entry_point
        self.defined: set[str] = set()

    def __missing__(self, name: str) -> Any:
        if name != self._entry_point:
            if hasattr(builtins, name) or name.startswith("__"):
                raise KeyError(name)
            if name in sys.stdlib_module_names:
                self[name] = importlib.import_module(name)
                return self[name]
        try:
            value = self._candidate.resolve(name)
        except KeyError:
            raise KeyError(name) from None
        if isinstance(value, Remote):
            self[name] = value
        return value


def serve(judge: Channel, candidate_channel: Channel) -> None:
    """Run one job and report: a frame a test, then the end. The whole life of the process."""
    job = judge.receive()
    candidate = Candidate(candidate_channel)
    try:
        candidate.load(_shared(job["setup"]), job["code"])
    except Exception as error:
        judge.send({"loaded": False, "reason": why(error), "output": candidate.printed})
        return
    judge.send({"loaded": True})
    if job["calls"] is not None:
        _calls(judge, candidate, job["entry_point"], decode(job["calls"]))
    else:
        _asserts(judge, candidate, job)
    judge.send({"done": True})


def _calls(
    judge: Channel, candidate: Candidate, entry_point: str, calls: list[dict[str, Any]]
) -> None:
    for call in calls:
        passed, reason = False, ""
        try:
            target = candidate.resolve(entry_point)
            if not isinstance(target, Remote):
                raise TypeError(f"{entry_point} is no function")
            result = target(*call["args"], **call["kwargs"])
            passed = same(call["expect"], result)
            reason = "" if passed else f"returned {_show(result)}, expected {_show(call['expect'])}"
        except Exception as error:
            reason = why(error)
        judge.send({"passed": passed, "reason": reason, "output": candidate.printed})


def same(expected: Any, result: Any) -> bool:
    """Whether a result is what the task file says, in JSON's terms.

    A tuple counts as a list; true is not 1; numbers are compared by value, a fractional
    one within a relative 1e-9.
    """
    if isinstance(expected, bool) or isinstance(result, bool) or expected is None:
        return type(expected) is type(result) and expected == result
    if isinstance(expected, int | float):
        if type(result) not in (int, float):
            return False
        if isinstance(expected, int) and type(result) is int:
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
    setup_fault = _run(job["setup"], names)
    for source in job["tests"]:
        reason = setup_fault or _run(source, names) or _check(source, names, job["entry_point"])
        judge.send({"passed": reason is None, "reason": reason or "", "output": candidate.printed})


def _run(source: str, names: _Names) -> str | None:
    """Why the source did not run to its end, None when it did."""
    try:
        exec(compile(source, "<test>", "exec"), names)
    except BaseException as error:  # a test that exits has not passed
        return why(error)
    return None


def _check(source: str, names: _Names, entry_point: str) -> str | None:
    """HumanEval's tests define `check(candidate)` and leave the call to the runner."""
    body = ast.parse(source).body
    defines = any(isinstance(part, ast.FunctionDef) and part.name == "check" for part in body)
    called = any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check"
        for part in body
        if isinstance(part, ast.Expr)
        for node in ast.walk(part)
    )
    return _run(f"check({entry_point})", names) if defines and not called else None


def _shared(setup: str) -> str:
    """Imports and classes of the setup, which the candidate may use; not its other code,
    which may know the answers."""
    kinds = (ast.Import, ast.ImportFrom, ast.ClassDef)
    parts = [part for part in ast.parse(setup).body if isinstance(part, kinds)]
    return "\n".join(ast.unparse(part) for part in parts)


def _overwrite(old: Any, new: Any) -> None:
    if type(old) is not type(new):
        raise CandidateGoneError("it changed an argument to another type")
    if isinstance(old, list | bytearray):
        old[:] = new
    else:
        old.clear()
        old.update(new)


def _show(value: Any) -> str:
    try:
        return repr(value)[:200]
    except Exception as error:
        return f"a value that cannot be shown ({type(error).__name__})"


def why(error: BaseException) -> str:
    """An exception in a line of bounded length."""
    return f"{type(error).__name__}: {error}"[:MAX_REASON]
