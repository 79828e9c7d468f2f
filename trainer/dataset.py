"""Task files: JSONL and Parquet in, `Task` records out, every malformed row named.

A row is one task:

    {"id": "t1",
     "messages": [{"role": "user", "content": "What is 3 x 4?"}],
     "verifier": {"kind": "math", "answer": "12"},
     "privileged": {"answer": "12", "trace": "3 x 4 = 12",
                    "documents": ["..."], "document_ids": ["manual/pumps.md"]}}

`verifier` is a spec of `verifiers.spec`. `id` (then `<file stem>-<line>`) and everything
privileged may be absent; `"prompt": "..."` stands for one user message, and content may be
a list of `text` and `image_url` parts. Rows of verl and EasyR1 are read as they are
(`trainer.verl_rows`), and with a grader of the job, OpenAI's items
(`trainer.openai_rows`). In Parquet these values are structs or JSON text; a struct cannot tell null from absent, so what may hold
null (a JSON Schema, say) is written as JSON text.

All problems of a file are found before any is raised, and no row is skipped. Knows
nothing of models: the length check is given its tokeniser.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from trainer import parquet
from trainer.records import Task
from trainer.rows import Malformed, read_row, shown
from verifiers.openai_graders import Grader

SHOWN_PROBLEMS = 20
MAX_LINE_BYTES = 16 * 1024 * 1024
"""One task, with its images. Nothing beyond is held in memory or parsed in one go."""


@dataclass(frozen=True, slots=True)
class TaskProblem:
    """What is wrong, and where: the file, the 1-based line (row of a Parquet file), the field."""

    file: str
    line: int | None
    field: str | None
    message: str

    def __str__(self) -> str:
        unit = "row" if self.file.endswith(".parquet") else "line"
        place = self.file if self.line is None else f"{self.file}, {unit} {self.line}"
        return ": ".join(part for part in (place, self.field, self.message) if part)


class TaskFileError(ValueError):
    """A task file that cannot be used. `problems` has them all, the message the first ones."""

    def __init__(self, problems: Sequence[TaskProblem]) -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in self.problems[:SHOWN_PROBLEMS]]
        if rest := len(self.problems) - len(lines):
            lines.append(f"and {rest} more")
        super().__init__("\n".join([f"{len(self.problems)} problem(s) in the tasks", *lines]))

    def __reduce__(self) -> tuple[type[TaskFileError], tuple[tuple[TaskProblem, ...]]]:
        return type(self), (self.problems,)


def load_tasks(path: str | Path, grader: Grader | None = None) -> list[Task]:
    """Read every task of a `.jsonl` or `.parquet` file, in the order of the file.

    With a `grader`, rows are items that it judges; without, each has a verifier of its own.
    Raises TaskFileError with all problems at once: a missing, unreadable or empty file,
    rows that are malformed, verifier specs that do not parse, ids that occur twice.
    """
    path = Path(path)
    readers = {".jsonl": json_lines, ".parquet": _parquet_rows}
    problems: list[TaskProblem] = []
    if path.suffix not in readers:
        message = f"is of type {path.suffix or 'none'!r}; tasks are read from .jsonl and .parquet"
        raise TaskFileError([TaskProblem(str(path), None, None, message)])
    tasks: list[Task] = []
    line_of: dict[str, int] = {}
    rows = 0
    try:
        for line, row in readers[path.suffix](path):
            rows += 1
            found = (
                row if isinstance(row, Malformed) else read_row(row, f"{path.stem}-{line}", grader)
            )
            if isinstance(found, Malformed):
                problems += [TaskProblem(str(path), line, *problem) for problem in found.problems]
                continue
            if found.id in line_of:
                message = f"{found.id!r} is already the id of row {line_of[found.id]}"
                problems.append(TaskProblem(str(path), line, "id", message))
                continue
            line_of[found.id] = line
            tasks.append(found)
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        problems.append(TaskProblem(str(path), None, None, message))
    except parquet.ParquetError as error:
        problems.append(TaskProblem(str(path), None, None, str(error)))
    else:
        if rows == 0:
            message = "is empty: a job needs at least one task"
            problems.append(TaskProblem(str(path), None, None, message))
    if problems:
        raise TaskFileError(problems)
    return tasks


def json_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | Malformed]]:
    """Each line's number from 1 and its JSON object, or what is wrong with it. Raises OSError."""
    with path.open("rb") as lines:
        for number in itertools.count(1):
            raw = lines.readline(MAX_LINE_BYTES + 1)
            if not raw:
                return
            if len(raw) > MAX_LINE_BYTES:
                message = f"is longer than {MAX_LINE_BYTES} bytes; what follows was not read"
                yield number, Malformed(((None, message),))
                return
            yield number, _json_object(raw)


def _json_object(raw: bytes) -> Mapping[str, Any] | Malformed:
    try:
        value = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Malformed(((None, f"is not UTF-8: {error.reason} at byte {error.start + 1}"),))
    except json.JSONDecodeError as error:
        reason = f"is not JSON: {error.msg} at column {error.colno}" if raw.strip() else "is blank"
        return Malformed(((None, reason),))
    except RecursionError:
        return Malformed(((None, "is nested too deeply"),))
    if not isinstance(value, dict):
        return Malformed(((None, f"is {shown(value)}; a task is a JSON object"),))
    return cast("dict[str, Any]", value)


def _parquet_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | Malformed]]:
    for number, row in enumerate(parquet.rows(path), start=1):
        if isinstance(row, parquet.CellError):
            yield number, Malformed(((row.column, str(row)),))
        else:
            yield number, row


def split_by_length(
    tasks: Iterable[Task],
    tokenize: Callable[[Task], Sequence[int] | np.ndarray[Any, Any]],
    limit: int,
) -> tuple[list[Task], list[Task]]:
    """Part the tasks into those whose prompt has at most `limit` tokens and those too long."""
    fitting: list[Task] = []
    too_long: list[Task] = []
    for task in tasks:
        (fitting if len(tokenize(task)) <= limit else too_long).append(task)
    return fitting, too_long


class TaskOrder:
    """Which task comes next: an endless walk over `n` tasks, epoch after epoch.

    With `shuffle`, each epoch is a permutation drawn from (seed, epoch) alone, so the
    walk has no state but its position: a resumed job sees the sequence it would have seen.
    """

    def __init__(self, n: int, seed: int, shuffle: bool) -> None:
        if n < 1:
            raise ValueError(f"an order needs at least one task, not {n}")
        self._identity = {"n": n, "seed": seed, "shuffle": int(shuffle)}
        self._n, self._seed, self._shuffle = n, seed, shuffle
        self._position = 0
        self._drawn: tuple[int, list[int]] | None = None

    def take(self, k: int) -> list[int]:
        """The next `k` task indices; an epoch's end may lie among them."""
        if k < 0:
            raise ValueError(f"cannot take {k} tasks")
        taken: list[int] = []
        for position in range(self._position, self._position + k):
            epoch, offset = divmod(position, self._n)
            taken.append(self._permutation(epoch)[offset])
        self._position += k
        return taken

    def _permutation(self, epoch: int) -> list[int]:
        if self._drawn is None or self._drawn[0] != epoch:
            order = np.arange(self._n)
            if self._shuffle:
                order = np.random.default_rng([self._seed, epoch]).permutation(self._n)
            self._drawn = (epoch, order.tolist())
        return self._drawn[1]

    def state(self) -> dict[str, int]:
        """The cursor as plain numbers, for a checkpoint."""
        return {**self._identity, "position": self._position}

    def restore(self, state: Mapping[str, int]) -> None:
        """Go on where `state` was taken. Raises ValueError when it belongs to another order."""
        for name, value in self._identity.items():
            if state[name] != value:
                raise ValueError(
                    f"the data cursor was saved with {name} {state[name]}, this job has {value}"
                )
        self._position = state["position"]
