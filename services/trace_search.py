"""Looking into traces: the rollouts of a job that match, page by page, and one of them whole.

Reads Parquet by column, one row group after the other, so that neither the length of a run
nor that of its completions decides about the memory. Steps are numbered as events number
them, from 1. Knows files, not jobs or HTTP.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import and_
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from services.traces import TraceError, step_path, step_paths

Row = Mapping[str, Any]

SHOWN = (
    "group",
    "rollout",
    "task_id",
    "task",
    "text",
    "finish_reason",
    "version",
    "advantage",
    "score",
    "status",
    "evidence",
    "cpu_ms",
    "wall_ms",
    "completion_ids",
)
_PLACE = re.compile(r"([1-9][0-9]{0,8})-(0|[1-9][0-9]{0,8})-(0|[1-9][0-9]{0,8})", re.ASCII)
_END = (10**9 - 1, 10**9 - 1)
"""Group and rollout behind all others of a step."""


class Place(NamedTuple):
    """Where a rollout lies: the step (from 1), the group in its step, the place in its group."""

    step: int
    group: int
    rollout: int

    @classmethod
    def of(cls, text: str) -> Place | None:
        """The place that `12-3-5` names; None for what names none."""
        match = _PLACE.fullmatch(text)
        return None if match is None else cls(*map(int, match.groups()))

    def __str__(self) -> str:
        return f"{self.step}-{self.group}-{self.rollout}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a rollout must be like; None asks for nothing. `verifier` is a kind; `text` is found
    whatever its case."""

    step: int | None = None
    group: int | None = None
    task_id: str | None = None
    verifier: str | None = None
    status: str | None = None
    min_score: float | None = None
    max_score: float | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Rows by their places. If `more`, others may follow behind `last`."""

    rows: Sequence[tuple[Place, Row]]
    last: Place | None
    more: bool


def search(
    folder: Path,
    wanted: Wanted,
    *,
    after: Place | None = None,
    limit: int = 20,
    newest_first: bool = False,
    seconds: float = 5.0,
) -> Found:
    """Up to `limit` rollouts of a trace folder, from behind the place `after`.

    In the order of the steps, or the newest step first; within a step by group and rollout.
    A row has the columns SHOWN but for `completion_ids`, whose number is `tokens`; `verifier` is
    the task's kind. A search that took `seconds` ends behind the step it is at.
    Raises TraceError when a file is not a step's trace.
    """
    until = monotonic() + seconds
    rows: list[tuple[Place, Row]] = []
    steps = _steps(folder, wanted.step, after, newest_first)
    for step in steps:
        behind = after if after is not None and after.step == step else None
        rows += _of_step(folder, step, wanted, behind, limit + 1 - len(rows))
        if len(rows) > limit:
            return Found(rows[:limit], rows[limit - 1][0], more=True)
        if monotonic() > until and step != steps[-1]:
            return Found(rows, Place(step, *_END), more=True)
    return Found(rows, rows[-1][0] if rows else None, more=False)


def rollout_at(folder: Path, place: Place) -> Row | None:
    """One rollout with every column that its trace has; None when it is not there.

    Raises TraceError when its file is not a step's trace.
    """
    here = (pc.field("group") == place.group) & (pc.field("rollout") == place.rollout)
    with _reading(step_path(folder, place.step - 1)) as file:
        for number in range(0 if file is None else file.num_row_groups):
            assert file is not None
            places = file.read_row_group(number, ["group", "rollout"], use_threads=False)
            if places.filter(here).num_rows:
                found = file.read_row_group(number, use_threads=False).filter(here)
                return _completed(found.slice(0, 1).to_pylist()[0])
    return None


def _steps(folder: Path, only: int | None, after: Place | None, newest_first: bool) -> list[int]:
    """The steps to be looked at, in order."""
    if only is not None:
        steps = [only]
    else:
        steps = [int(path.stem.removeprefix("step-")) + 1 for path in step_paths(folder)]
    if newest_first:
        steps.reverse()
    if after is None:
        return steps
    sign = -1 if newest_first else 1
    begun = sign * (after.step + (sign if after[1:] == _END else 0))
    return [step for step in steps if sign * step >= begun]


def _of_step(
    folder: Path, step: int, wanted: Wanted, behind: Place | None, count: int
) -> list[tuple[Place, Row]]:
    """The first `count` rows of a step that match, from behind a place of it."""
    asked = _asked(wanted, behind)
    found: list[tuple[Place, Row]] = []
    with _reading(step_path(folder, step - 1)) as file:
        for number in range(0 if file is None else file.num_row_groups):
            assert file is not None
            chosen = _matching(file, number, asked, wanted.verifier)[: count - len(found)]
            if not chosen:
                continue
            rows = file.read_row_group(number, SHOWN, use_threads=False).take(chosen)
            tokens = pc.call_function("list_value_length", [rows.column("completion_ids")])
            rows = rows.drop_columns("completion_ids").append_column("tokens", tokens)
            for row in map(_completed, rows.to_pylist()):
                found.append((Place(step, row["group"], row["rollout"]), row))
            if len(found) == count:
                break
    return found


def _asked(wanted: Wanted, behind: Place | None) -> dict[str, list[pc.Expression]]:
    """What is asked of each column."""
    asked: dict[str, list[pc.Expression]] = {}
    for name in ("group", "task_id", "status"):
        if (value := getattr(wanted, name)) is not None:
            asked.setdefault(name, []).append(pc.field(name) == value)
    if wanted.min_score is not None:
        asked.setdefault("score", []).append(pc.field("score") >= wanted.min_score)
    if wanted.max_score is not None:
        asked.setdefault("score", []).append(pc.field("score") <= wanted.max_score)
    if wanted.text is not None:
        has: Any = pc.match_substring(  # pyright: ignore[reportAttributeAccessIssue]
            pc.field("text"), wanted.text, ignore_case=True
        )
        asked.setdefault("text", []).append(has)
    if behind is not None:
        group, rollout = pc.field("group"), pc.field("rollout")
        later = (group == behind.group) & (rollout > behind.rollout)
        asked.setdefault("group", []).append((group > behind.group) | later)
        asked.setdefault("rollout", [])
    return asked


def _matching(
    file: pq.ParquetFile, number: int, asked: Mapping[str, list[pc.Expression]], kind: str | None
) -> list[int]:
    """The rows of a row group that match, by their place in it."""
    columns = [*(asked or ["group"]), *([] if kind is None else ["task"])]
    table = file.read_row_group(number, columns, use_threads=False)
    table = table.append_column("row", pa.array(range(table.num_rows), pa.int32()))
    conditions = [condition for group in asked.values() for condition in group]
    if conditions:
        table = table.filter(reduce(and_, conditions))
    if kind is not None and table.num_rows:
        tasks = table.column("task").combine_chunks()
        kinds = [_kind(json.loads(task)) for task in tasks.dictionary.to_pylist()]
        same = pa.array([kinds[index] == kind for index in tasks.indices.to_pylist()])
        table = table.filter(same)
    return table.column("row").to_pylist()


def _completed(row: dict[str, Any]) -> Row:
    """A row with its JSON read."""
    task, evidence = json.loads(row["task"]), json.loads(row["evidence"])
    return {**row, "task": task, "evidence": evidence, "verifier": _kind(task)}


def _kind(task: Mapping[str, Any]) -> str:
    return str(task["verifier"]["kind"])


@contextmanager
def _reading(path: Path) -> Generator[pq.ParquetFile | None]:
    """A step's file; None when there is none. Tasks come as a dictionary: each is read once."""
    if not path.exists():
        yield None
        return
    try:
        with pq.ParquetFile(path, read_dictionary=["task"]) as file:
            if missing := sorted(set(SHOWN) - set(file.schema_arrow.names)):
                raise TraceError(f"{path}: is not a trace: it lacks {', '.join(missing)}")
            yield file
    except (OSError, pa.ArrowException) as error:
        raise TraceError(f"{path}: cannot be read: {error}") from error
