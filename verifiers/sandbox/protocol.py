"""The language between the judge and the accused: framed, capped, plain data.

A frame is a four-byte length and JSON. `encode` turns a value into JSON with one-key
objects for what JSON lacks (`{"tuple": [...]}`); subclasses are reduced to the builtin
they extend, so that nothing with behaviour crosses. What is no plain data crosses as a
number that only its owner can resolve, if the two sides agreed on a tag. `decode` builds exact builtin types and
bounds depth, size and integers; it never imports, calls or evaluates what it reads.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import re
import select
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any, cast

MAX_FRAME = 16 * 2**20
MAX_DEPTH = 100
MAX_INTEGER_DIGITS = 4_000
"""Decimal digits; a longer integer travels in hexadecimal, up to MAX_INTEGER_BITS."""
MAX_INTEGER_BITS = 2**20

_HEADER = struct.Struct(">I")
_READ = 2**12
"""Bytes to ask for at least: a small frame comes with its header."""
_SMALL = 10**MAX_INTEGER_DIGITS
_TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        *(bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset),
        *(range, type(None), object),
    )
}
_ARRAY_TYPE = re.compile(r"[<>|=]?[biufc]\d{1,2}")

Tag = Callable[[Any], "dict[str, Any]"]
"""Names a value that is no plain data, as one tagged value; raises ProtocolError."""
Resolve = Callable[[str, Any], Any]
"""The value of a tag and body that such a function made; raises ProtocolError."""


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


# Made once: a fork that makes its own copies pages.
_to_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_from_json = json.JSONDecoder(parse_constant=_refuse_constant).decode


class ProtocolError(ValueError):
    """A frame or value that the protocol does not have."""


class Channel:
    """Frames over one descriptor.

    With a `deadline` (monotonic seconds) the descriptor is non-blocking and a wait beyond
    it is a TimeoutError; without one, whoever is on the other side can be waited for.
    Frames of more than `most` bytes are not read.
    """

    def __init__(
        self, descriptor: int, deadline: float | None = None, most: int = MAX_FRAME
    ) -> None:
        self._descriptor, self._deadline, self._most = descriptor, deadline, most
        self._buffer = bytearray()

    def send(self, message: Any) -> None:
        """Write one frame. Raises ProtocolError when it is too large, OSError when nobody
        reads any more."""
        body = _to_json(message).encode("ascii")
        if len(body) > MAX_FRAME:
            raise ProtocolError(f"a frame of {len(body)} bytes; {MAX_FRAME} are allowed")
        data = memoryview(_HEADER.pack(len(body)) + body)
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                self._wait(select.POLLOUT)

    def receive(self) -> Any:
        """Read one frame. Raises EOFError at the end of the stream, and ProtocolError."""
        (length,) = _HEADER.unpack(self._exactly(_HEADER.size))
        if length > self._most:
            raise ProtocolError(f"a frame of {length} bytes; {self._most} are allowed")
        return parse(self._exactly(length))

    def _exactly(self, size: int) -> bytes:
        buffer = self._buffer
        while len(buffer) < size:
            try:
                part = os.read(self._descriptor, max(_READ, min(size - len(buffer), 2**20)))
            except BlockingIOError:
                self._wait(select.POLLIN)
                continue
            except ConnectionResetError:
                part = b""
            if not part:
                raise EOFError("the other side ended")
            buffer += part
        data = bytes(memoryview(buffer)[:size])
        del buffer[:size]
        return data

    def _wait(self, event: int) -> None:
        assert self._deadline is not None, "only a channel with a deadline is non-blocking"
        poll = select.poll()
        poll.register(self._descriptor, event)
        left = self._deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1e3):
            raise TimeoutError("the other side is late")


def parse(body: bytes) -> Any:
    """The JSON of one frame. Raises ProtocolError."""
    try:
        return _from_json(body.decode())
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a frame that is no JSON: {error}") from None


def encode(value: Any, tag: Tag | None = None, depth: int = 0) -> Any:
    """JSON data for a value. Raises ProtocolError for what is no plain data without `tag`."""
    if value is None or value is True or value is False:
        return value
    if depth > MAX_DEPTH:
        raise ProtocolError(f"a value nested more than {MAX_DEPTH} deep")
    match value:
        case str():
            return str.__str__(value)
        case int():
            return _encode_integer(int.__index__(value))
        case float():
            exact = float.__float__(value)
            return exact if math.isfinite(exact) else {"float": str(exact)}
        case list():
            return [encode(v, tag, depth + 1) for v in _each(list, value)]
        case tuple():
            return {"tuple": [encode(v, tag, depth + 1) for v in _each(tuple, value)]}
        case dict():
            return {
                "dict": [
                    [encode(k, tag, depth + 1), encode(v, tag, depth + 1)] for k, v in _pairs(value)
                ]
            }
        case set():
            return {"set": [encode(v, tag, depth + 1) for v in _each(set, value)]}
        case frozenset():
            parts = _each(frozenset, value)
            return {"frozenset": [encode(v, tag, depth + 1) for v in parts]}
        case bytes():
            return {"bytes": bytes.hex(value)}
        case bytearray():
            return {"bytearray": bytearray.hex(value)}
        case complex():
            return {"complex": [encode(float(value.real)), encode(float(value.imag))]}
        case range():
            return {"range": [encode(n) for n in (value.start, value.stop, value.step)]}
        case deque():
            return {"deque": [encode(v, tag, depth + 1) for v in _each(deque, value)]}
        case Decimal():
            return {"decimal": Decimal.__str__(value)}
        case Fraction():
            return {"fraction": [encode(value.numerator), encode(value.denominator)]}
        case datetime.datetime() if value.tzinfo is None:
            return {"datetime": datetime.datetime.isoformat(value)}
        case datetime.date() if not isinstance(value, datetime.datetime):
            return {"date": datetime.date.isoformat(value)}
        case datetime.timedelta():
            return {"timedelta": [value.days, value.seconds, value.microseconds]}
        case _:
            return _encode_other(value, tag, depth)


def _each(kind: Any, value: Any) -> Iterator[Any]:
    return kind.__iter__(value)  # not the subclass's own


def _pairs(value: Any) -> Iterable[tuple[Any, Any]]:
    plain: Any = dict
    return plain.items(value)


def _encode_integer(value: int) -> Any:
    if -_SMALL < value < _SMALL:
        return value
    if value.bit_length() > MAX_INTEGER_BITS:
        raise ProtocolError(f"an integer of {value.bit_length()} bits")
    return {"int": hex(value)}


def _encode_other(value: Any, tag: Tag | None, depth: int) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if isinstance(value, numpy.ndarray) and _ARRAY_TYPE.fullmatch(value.dtype.str):
            return {"ndarray": [value.dtype.str, list(value.shape), value.tobytes().hex()]}
        if isinstance(value, numpy.generic) and value.dtype.kind in "biufcU":
            return encode(value.item(), tag, depth)
    if isinstance(value, type) and value in _TYPES.values():
        return {"type": value.__name__}
    if tag is None:
        raise ProtocolError(f"a {type(value).__name__} is no plain data")
    return tag(value)


def decode(node: Any, resolve: Resolve | None = None, depth: int = 0) -> Any:
    """The value of JSON data that `encode` could have made. Raises ProtocolError."""
    if depth > MAX_DEPTH:
        raise ProtocolError(f"a value nested more than {MAX_DEPTH} deep")
    if isinstance(node, list):
        return [decode(part, resolve, depth + 1) for part in cast("list[Any]", node)]
    if not isinstance(node, dict):
        return node
    items = list(cast("dict[str, Any]", node).items())
    if len(items) != 1:
        raise ProtocolError(f"a tagged value with {len(items)} tags")
    ((tag, body),) = items
    try:
        return _decode_tagged(tag, body, resolve, depth + 1)
    except ProtocolError:
        raise
    except (TypeError, ValueError, KeyError, ArithmeticError) as error:
        raise ProtocolError(f"no {tag[:20]}: {error}") from None


def _decode_tagged(tag: str, body: Any, resolve: Resolve | None, depth: int) -> Any:
    def parts() -> Iterable[Any]:
        if type(body) is not list:
            raise ProtocolError(f"no {tag}: {type(body).__name__} where a list belongs")
        return [decode(part, resolve, depth) for part in cast("list[Any]", body)]

    match tag:
        case "tuple":
            return tuple(parts())
        case "dict":
            pairs = list(parts())
            if any(type(pair) is not list or len(pair) != 2 for pair in pairs):
                raise ProtocolError("no dict: an item that is no pair")
            return {key: value for key, value in pairs}  # noqa: C416 - pairs are lists of two
        case "set":
            return set(parts())
        case "frozenset":
            return frozenset(parts())
        case "deque":
            return deque(parts())
        case "int":
            return _decode_integer(body)
        case "float":
            return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[_text(body, 4)]
        case "bytes":
            return bytes.fromhex(_text(body))
        case "bytearray":
            return bytearray.fromhex(_text(body))
        case "complex":
            real, imaginary = parts()
            return complex(float(real), float(imaginary))
        case "range":
            start, stop, step = parts()
            return range(start, stop, step)
        case "decimal":
            return Decimal(_text(body, MAX_INTEGER_DIGITS))
        case "fraction":
            numerator, denominator = parts()
            return Fraction(numerator, denominator)
        case "datetime":
            return datetime.datetime.fromisoformat(_text(body, 40))
        case "date":
            return datetime.date.fromisoformat(_text(body, 40))
        case "timedelta":
            days, seconds, microseconds = parts()
            return datetime.timedelta(days, seconds, microseconds)
        case "type":
            return _TYPES[_text(body, 20)]
        case "ndarray":
            return _decode_array(body)
        case _ if resolve is not None:
            return resolve(tag, body)
        case _:
            raise ProtocolError(f"unknown tag {tag[:20]!r}")


def _text(body: Any, limit: int = MAX_FRAME) -> str:
    if type(body) is not str or len(body) > limit:
        raise ProtocolError("no text of the right length")
    return body


def _decode_integer(body: Any) -> int:
    text = _text(body, MAX_INTEGER_BITS // 4 + 4)
    return int(text, 16)


def _decode_array(body: Any) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        raise ProtocolError("an array, and numpy is not loaded")
    kind, shape, data = body
    if not _ARRAY_TYPE.fullmatch(_text(kind, 8)) or type(shape) is not list:
        raise ProtocolError("no array of numbers")
    sizes = cast("list[Any]", shape)
    if any(type(size) is not int or size < 0 for size in sizes):
        raise ProtocolError("no shape of an array")
    return numpy.frombuffer(bytes.fromhex(_text(data)), kind).reshape(sizes).copy()
