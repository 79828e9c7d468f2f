"""Whether an uploaded file can hold tasks at all: every line is one JSON object, or it is Parquet.

What a row must have depends on the job that reads it, and is checked when a job names the
file. Reads one line at a time, so the size of a file costs no memory.
"""

from __future__ import annotations

from pathlib import Path

from trainer import parquet
from trainer.dataset import json_lines
from trainer.rows import Malformed

_PARQUET_MAGIC = b"PAR1"


def check_task_file(path: Path) -> tuple[str, str | None]:
    """The suffix that fits the content, and what is wrong with it, None when nothing is."""
    with path.open("rb") as file:
        magic = file.read(len(_PARQUET_MAGIC))
    if magic == _PARQUET_MAGIC:
        return ".parquet", _parquet_problem(path)
    return ".jsonl", _lines_problem(path)


def _parquet_problem(path: Path) -> str | None:
    try:
        first = next(parquet.rows(path), None)
    except parquet.ParquetError as error:
        return str(error)
    if first is None:
        return "is empty: a job needs at least one task"
    return f"row 1: {first.column}: {first}" if isinstance(first, parquet.CellError) else None


def _lines_problem(path: Path) -> str | None:
    lines = 0
    for number, row in json_lines(path):
        lines = number
        if isinstance(row, Malformed):
            return f"line {number} {row.problems[0][1]}"
    return None if lines else "is empty: a job needs at least one task"
