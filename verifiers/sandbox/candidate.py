"""The candidate as the judge sees it: stand-ins that send plain data and decode plain data.

Every comparison is made in the judge's own process, by this interpreter's own builtins on
exact builtin types; an object that is no plain data can be passed back and looked into,
but it is never equal to a value and has no truth of its own. Knows no tests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

from verifiers.sandbox.exceptions import MAX_REASON, describe, revive
from verifiers.sandbox.protocol import Channel, ProtocolError, decode, encode

MODULE = "tests"
MAX_AHEAD = 2**14
"""Bytes of requests sent ahead; far less than a socket takes without a reader."""


class CandidateGoneError(Exception):
    """The candidate's process ended or broke the protocol; no test can pass any more."""


class LateError(Exception):
    """The deadline of the channel passed. No exception of the candidate's: those are builtins."""


class Candidate:
    """The other end of the channel. After the first fault every call fails."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._callbacks: list[Callable[..., Any]] = []
        self._fault: str | None = None
        """Why no call can succeed any more."""
        self._sent: deque[tuple[Any, ...]] = deque()
        """Requests whose replies nobody has read yet."""
        self._violated: AssertionError | None = None
        """An assertion that failed in a function of the test's while the candidate ran."""
        self.printed = ""

    def load(self, shared: str, code: str) -> None:
        """Have the candidate's code executed. Raises what it raises."""
        self._request("load", shared, code)

    def resolve(self, name: str) -> Any:
        """The candidate's global of this name. Raises KeyError when it has none."""
        return self._value(self._request("resolve", name))

    def named(self, name: str, arguments: Sequence[Any], keywords: dict[str, Any]) -> Any:
        """The result of the function of this name, whatever it does to its arguments."""
        return self._value(self._request(*self._by_name(name, arguments, keywords)))

    def ahead(
        self,
        shared: str,
        code: str,
        *,
        names: Iterable[str] = (),
        calls: Iterable[tuple[str, Sequence[Any], dict[str, Any]]] = (),
    ) -> None:
        """Send `load`, `resolve` of names and calls by name before anybody waits for a reply: the
        same requests, in this order, then only read theirs. What would not fit into the socket is
        left for later.
        """
        requests: list[tuple[Any, ...]] = [("load", shared, code)]
        requests += [("resolve", name) for name in names]
        requests += [self._by_name(*call) for call in calls]
        size = 0
        try:
            for request in requests:
                size += len(str(request))
                if size > MAX_AHEAD:
                    return
                self._channel.send(request)
                self._sent.append(request)
        except TimeoutError as error:
            raise LateError(str(error)) from None
        except (ProtocolError, OSError) as error:
            raise self._gone(str(error)) from None

    def _by_name(
        self, name: str, arguments: Sequence[Any], keywords: dict[str, Any]
    ) -> tuple[Any, ...]:
        return ("named", name, encode([list(arguments), keywords], self._tag))

    def call(self, target: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """The result of a call; mutable arguments change as the candidate changed them."""
        self._violated = None
        reply = self._operate("call", (target, *arguments), keywords)
        if self._violated is not None:
            raise self._violated
        value = self._value(reply)
        match reply.get("changed", []):
            case [*changes] if all(map(_is_change, changes)):
                for index, new in changes:
                    self._overwrite(arguments, index, self._value({"value": new}))
            case _:
                raise self._gone("it changed what is no argument")
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
            if not self._sent:
                self._channel.send(request)
            elif self._sent.popleft() != request:
                raise ProtocolError("another request was sent ahead")
            while True:
                received = self._channel.receive()
                if type(received) is not dict:
                    raise ProtocolError("a reply that is no object")
                reply = cast("dict[str, Any]", received)
                if "callback" not in reply:
                    break
                self._channel.send(self._called_back(reply["callback"], reply.get("arguments")))
        except TimeoutError as error:
            raise LateError(str(error)) from None
        except (ProtocolError, EOFError, OSError) as error:
            raise self._gone(str(error)) from None
        if "error" in reply:
            error = self._error(reply)
            if isinstance(error, StopIteration) and request[0] != "next":
                # It would end a loop of the test's in silence: `all(map(f, cases))`.
                raise RuntimeError("the candidate raised StopIteration")
            raise error
        return reply

    def _called_back(self, key: Any, arguments: Any) -> dict[str, Any]:
        """What a function of the test's returns, or raises, when the candidate calls it."""
        values = decode(arguments, self._resolve)
        if type(key) is not int or not 0 <= key < len(self._callbacks) or type(values) is not list:
            raise ProtocolError("a call of a function that was not handed over")
        try:
            result = self._callbacks[key](*cast("list[Any]", values))
            return {"value": encode(result, self._tag)}
        except (CandidateGoneError, LateError):
            raise
        except AssertionError as error:  # the candidate may swallow it, the test does not
            self._violated = error
            return {"error": describe(error)}
        except Exception as error:
            return {"error": describe(error)}

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
        return revive(reply["error"]) or self._gone("an error that is none")

    def _overwrite(self, arguments: tuple[Any, ...], index: int, new: Any) -> None:
        old: Any = arguments[index] if index < len(arguments) else None
        kind = cast("type[object]", type(old))
        if kind is not type(new) or kind not in (list, bytearray, dict, set):
            raise self._gone("it changed an argument that there is not, or its type")
        old.clear()
        if kind in (list, bytearray):
            old.extend(new)
        else:
            old.update(new)

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

    def __call__(self, /, *arguments: Any, **keywords: Any) -> Any:
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


def _is_change(change: Any) -> bool:
    match change:
        case [int(index), _]:
            return type(index) is int and index >= 0
        case _:
            return False
