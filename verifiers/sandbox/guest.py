"""The accused: runs the candidate's code and answers calls for its functions.

Whatever this process says is a claim: the judge decodes it as plain data and compares in
its own process. The code here is honest only until the first line of the candidate runs,
and nothing depends on its staying so.
"""

from __future__ import annotations

import io
import itertools
import operator
import os
import sys
import types
from collections.abc import Callable
from functools import partial
from typing import Any

from verifiers.sandbox.exceptions import describe, revive
from verifiers.sandbox.protocol import Channel, ProtocolError, decode, encode

MODULE = "candidate"
MAX_HANDLES = 100_000
MAX_OUTPUT = 2_000

OPERATIONS: dict[str, Callable[..., Any]] = {
    "getattr": getattr,
    "setattr": setattr,
    "getitem": operator.getitem,
    "setitem": operator.setitem,
    "len": len,
    "iter": iter,
    "next": next,
    "repr": repr,
    "str": str,
}


class _Output(io.StringIO):
    """Keeps the end of what is printed."""

    def write(self, text: str, /) -> int:
        if self.tell() > 100 * MAX_OUTPUT:
            kept = self.getvalue()[-MAX_OUTPUT:]
            self.seek(0)
            self.truncate()
            super().write(kept)
        return super().write(text[-100 * MAX_OUTPUT :])


class Guest:
    """One candidate and the objects of its that the judge holds handles of."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._module = types.ModuleType(MODULE)
        self._objects: dict[int, Any] = {}
        self._keys: dict[int, int] = {}
        self._next = itertools.count()

    def serve(self) -> None:
        """Answer requests until the judge closes the channel."""
        while True:
            try:
                request = self._channel.receive()
            except EOFError:
                return
            self._respond(request)

    def _respond(self, request: Any) -> None:
        try:
            reply = self._answer(*request)
        except BaseException as error:  # also SystemExit and KeyboardInterrupt
            reply = {"error": describe(error), "output": self._printed()}
        self._channel.send(reply)

    def _answer(self, operation: str, *arguments: Any) -> Any:
        if operation == "load":
            return self._load(*arguments)
        if operation == "resolve":
            value = self._module.__dict__[arguments[0]]
            return {"value": self._tag(value) if callable(value) else encode(value, self._tag)}
        if operation == "named":
            function = self._module.__dict__[arguments[0]]
            positional, keywords = decode(arguments[1], self._resolve)
            return {"value": encode(function(*positional, **keywords), self._tag)}
        positional, keywords = decode(arguments[0], self._resolve)
        if operation == "call":
            function, *positional = positional
            before = [_mutable(value) and encode(value, self._tag) for value in positional]
            value = encode(function(*positional, **keywords), self._tag)
            changed: list[list[Any]] = []
            for index, old in enumerate(before):
                if old is not False and (new := encode(positional[index], self._tag)) != old:
                    changed.append([index, new])
            return {"value": value, "changed": changed} if changed else {"value": value}
        return {"value": encode(OPERATIONS[operation](*positional), self._tag)}

    def _load(self, shared: str, code: str) -> Any:
        sys.modules[MODULE] = self._module
        sys.stdout = sys.stderr = _Output()
        namespace = self._module.__dict__
        if shared:
            exec(compile(shared, "<setup>", "exec"), namespace)
        exec(compile(code, "<candidate>", "exec"), namespace)
        return {"value": None}

    def _tag(self, value: Any) -> dict[str, Any]:
        key = self._keys.get(id(value))
        if key is None:
            if len(self._objects) >= MAX_HANDLES:
                raise ProtocolError(f"more than {MAX_HANDLES} objects")
            key = self._keys[id(value)] = next(self._next)
            self._objects[key] = value
        return {"handle": key}

    def _resolve(self, tag: str, body: Any) -> Any:
        if tag == "handle":
            return self._objects[body]
        if tag == "callback":
            return partial(self._call_back, body)
        name, fields = body  # an instance of a class that the setup defines
        kind = self._module.__dict__[name]
        instance = kind.__new__(kind)
        instance.__dict__.update(decode(fields, self._resolve))
        return instance

    def _call_back(self, key: int, *arguments: Any) -> Any:
        self._channel.send({"callback": key, "arguments": encode(list(arguments), self._tag)})
        while type(message := self._channel.receive()) is list:  # it calls us in its turn
            self._respond(message)
        if "error" in message:
            raise revive(message["error"]) or ProtocolError("an error that is none")
        return decode(message["value"], self._resolve)

    def _printed(self) -> str:
        output = sys.stdout
        if not isinstance(output, io.StringIO):
            return ""
        return io.StringIO.getvalue(output)[-MAX_OUTPUT:]


def run_program(channel: Channel) -> None:
    """Run a whole program, whose standard input and output are descriptors 0 and 1."""
    code = channel.receive()
    sys.stdin = os.fdopen(0, "r", encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="replace", closefd=False)
    sys.argv = ["program"]
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    try:
        exec(compile(code, "<candidate>", "exec"), main.__dict__)
    except SystemExit:
        pass
    except BaseException as error:
        sys.stderr.write(": ".join(describe(error)[0::2]))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _mutable(value: Any) -> bool:
    return isinstance(value, (list, dict, set, bytearray))
