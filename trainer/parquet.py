"""Rows of a Parquet task file as plain data.

Structs and JSON text both serve as objects. In a struct every row has every field, so
null means absent and is left out; in JSON text null stays null. Knows nothing of what a
task is but which columns may hold JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

JSON_COLUMNS = ("messages", "verifier", "privileged")
_ROWS_READ = 1024


class ParquetError(ValueError):
    """A file that is not Parquet, or broken within."""


class CellError(ValueError):
    """A cell that should hold JSON text and does not; `column` names it."""

    def __init__(self, column: str, message: str) -> None:
        super().__init__(message)
        self.column = column


def rows(path: Path) -> Iterator[dict[str, Any] | CellError]:
    """Each row, or what is wrong with it. Raises ParquetError, and OSError when unreadable."""
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_ROWS_READ):
                for row in batch.to_pylist():
                    try:
                        yield {k: _cell(k, v) for k, v in row.items() if v is not None}
                    except CellError as error:
                        yield error
    except pa.ArrowException as error:
        raise ParquetError(f"is not a Parquet file: {error}") from error


def _cell(column: str, value: Any) -> Any:
    if column in JSON_COLUMNS and isinstance(value, str):
        try:
            return json.loads(value)
        except (json.JSONDecodeError, RecursionError) as error:
            raise CellError(column, f"is text, but not JSON: {error}") from error
    return _without_nulls(value)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
