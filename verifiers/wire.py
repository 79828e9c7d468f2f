"""Frames between a pool and its workers: a four-byte length, then JSON. Never pickle.

Each side reads only what the other wrote in these frames; the length is bounded, so a
broken peer is an error and not a hang or a flood.
"""

from __future__ import annotations

import json
import struct
from typing import Any

MAX_FRAME = 64 * 2**20
"""Bytes; a completion of the largest allowed length, escaped, fits."""

_HEADER = struct.Struct(">I")


class WireError(ValueError):
    """A frame that is no frame."""


def encode(message: dict[str, Any]) -> bytes:
    """One frame. Lone surrogates survive, as escapes."""
    body = json.dumps(message, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    if len(body) > MAX_FRAME:
        raise WireError(f"a frame of {len(body)} bytes; {MAX_FRAME} are allowed")
    return _HEADER.pack(len(body)) + body


class Decoder:
    """Cuts a byte stream into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The messages that these bytes complete. Raises WireError."""
        self._buffer += data
        messages: list[dict[str, Any]] = []
        while len(self._buffer) >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._buffer)
            if length > MAX_FRAME:
                raise WireError(f"a frame of {length} bytes; {MAX_FRAME} are allowed")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                break
            try:
                messages.append(json.loads(bytes(self._buffer[_HEADER.size : end])))
            except ValueError as error:
                raise WireError(f"a frame that is no JSON: {error}") from None
            del self._buffer[:end]
        return messages
