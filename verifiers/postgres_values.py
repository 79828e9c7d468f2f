"""PostgreSQL's values as Python's, for comparison: what Python cannot hold stays text.

JSON becomes plain data without the order of its keys and stays apart from text and arrays;
types of the database's own (an enum, say) are text.
"""

from __future__ import annotations

import json
from typing import Any

import psycopg
from psycopg.types import datetime as times
from psycopg.types.string import TextLoader

_Buffer = bytes | bytearray | memoryview


class _Json(TextLoader):
    """("json", value); text where it cannot be read."""

    def load(self, data: _Buffer) -> Any:
        text = bytes(data).decode("utf-8")
        try:
            return "json", json.loads(text, object_pairs_hook=_unordered)
        except (ValueError, RecursionError):
            return "json", text


def _unordered(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(sorted(dict(pairs).items()))


def _lenient(kind: type[Any]) -> type[Any]:
    """A loader that leaves what Python has no value for (`infinity`, the year 12000) as text."""

    class Lenient(kind):
        def load(self, data: _Buffer) -> Any:
            try:
                return kind.load(self, data)
            except (psycopg.Error, OverflowError, ValueError):
                return bytes(data).decode("ascii", "replace")

    return Lenient


_LOADERS: dict[str, type[Any]] = {
    "json": _Json,
    "jsonb": _Json,
    "record": TextLoader,  # as rows of a table's own type come
    "date": _lenient(times.DateLoader),
    "time": _lenient(times.TimeLoader),
    "timetz": _lenient(times.TimetzLoader),
    "timestamp": _lenient(times.TimestampLoader),
    "timestamptz": _lenient(times.TimestamptzLoader),
    "interval": _lenient(times.IntervalLoader),
}


def adapt(connection: psycopg.Connection[Any]) -> None:
    """Let a connection load values so."""
    for name, loader in _LOADERS.items():
        connection.adapters.register_loader(name, loader)
