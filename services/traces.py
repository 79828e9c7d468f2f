"""Traces: every rollout of a job kept as Parquet, one file a step, one row a rollout.

A trace folder holds `job.json`, the job's resolved spec, and `step-000000.parquet`, ...;
together they are all that a replay needs. What the columns mean is told in
services/trace_rows.py. A file is cut into row groups of whole groups, so that one rollout is
read without the rest. What each token id says is in `vocabulary.parquet` (services/
trace_vocabulary.py). Reads and writes files; knows nothing of models, Ray or torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from services.trace_rows import SCHEMA, StepTrace, TraceError, rows_of, step_of
from services.whole_files import written_whole

JOB_FILE = "job.json"
ROW_GROUP_TOKENS = 2**16
"""Completion tokens from which on a row group is full."""


def write_job(folder: str | Path, spec: Mapping[str, Any]) -> Path:
    """Keep the job's resolved spec, as plain JSON data, beside its steps."""
    path = Path(folder) / JOB_FILE
    text = json.dumps(spec, indent=2, ensure_ascii=False) + "\n"
    with written_whole(path) as file:
        file.write(text.encode())
    return path


def read_job(folder: str | Path) -> dict[str, Any]:
    """The resolved spec of the job whose traces lie in `folder`. Raises TraceError without one."""
    path = Path(folder) / JOB_FILE
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise TraceError(f"{path}: is not JSON: {error}") from error


def step_path(folder: str | Path, step: int) -> Path:
    """Where the rollouts of `step` are kept."""
    return Path(folder) / f"step-{step:06d}.parquet"


def step_paths(folder: str | Path) -> list[Path]:
    """The step files of a trace folder, in the order of the steps."""
    return sorted(Path(folder).glob("step-*.parquet"))


def write_step(folder: str | Path, trace: StepTrace) -> Path:
    """Write one step, whole or not at all; a step that is run again replaces its file.

    Raises TraceError when an array does not fit the groups.
    """
    rows = rows_of(trace)
    path = step_path(folder, trace.step)
    with (
        written_whole(path) as file,
        pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer,
    ):
        for part in _row_groups(rows):
            writer.write_table(pa.Table.from_pylist(part, schema=SCHEMA))
    return path


def read_step(path: str | Path) -> StepTrace:
    """What `write_step` was given. Raises TraceError when the file is not a step's trace."""
    try:
        table = pq.ParquetFile(path).read()
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except pa.ArrowException as error:
        raise TraceError(f"{path}: is not Parquet: {error}") from error
    try:
        return step_of(table)
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from None


def _row_groups(rows: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The rows of whole groups, as many as it takes to have ROW_GROUP_TOKENS tokens."""
    part: list[dict[str, Any]] = []
    tokens = 0
    for row in rows:
        if tokens >= ROW_GROUP_TOKENS and row["group"] != part[-1]["group"]:
            yield part
            part, tokens = [], 0
        part.append(row)
        tokens += len(row["completion_ids"])
    yield part
