"""A step of a job as rows of a table, one a rollout, and back. Arrays come back bit for bit.

| column               | type            | meaning                                              |
|----------------------|-----------------|------------------------------------------------------|
| `step`               | int32           | learning step                                        |
| `task_id`            | string          |                                                      |
| `group`, `rollout`   | int32           | position in the step, and within the group           |
| `task`               | string (JSON)   | messages, verifier, privileged                       |
| `prompt_ids`         | list<int32>     | [P]                                                  |
| `completion_ids`     | list<int32>     | [T]                                                  |
| `text`               | string          | the decoded completion                               |
| `finish_reason`      | string          | stop, length or abort                                |
| `version`            | int64           | policy version that sampled it                       |
| `engine_logprobs`    | list<float32>   | [T] of the rollout engine (nats)                     |
| `teacher_logprobs`   | list<float32>?  | [T] of the teacher; NaN where it had no context      |
| `contrast_logprobs`  | list<float32>?  | [T] of the teacher, under wrong answers              |
| `top_ids`            | list<int32>?    | [T x K] the teacher's likeliest tokens at each place |
| `top_logprobs`       | list<float32>?  | [T x K] and their log-probs                          |
| `student_logprobs`   | list<float32>?  | [T] of the learner; NaN where it was not asked       |
| `entropy`            | list<float32>?  | [T] of the learner's distribution (nats); NaN likewise |
| `alternative_ids`    | list<int32>?    | [T x K] the learner's likeliest tokens; -1 likewise  |
| `alternative_logprobs` | list<float16>? | [T x K] and their log-probs; NaN likewise           |
| `credit`             | list<float32>?  | [T] token advantages = advantage x token weight      |
| `token_weights`      | list<float32>?  | [T] credit / advantage; 1 where the advantage is 0   |
| `span_mask`          | list<bool>?     | [T] tokens whose credit evidence may move            |
| `teacher_prompt_length` | int32?       | tokens of the privileged prompt                      |
| `teacher_turn`       | string?         | what only the teacher read, as it read it            |
| `advantage`          | float32         | group-relative; NaN where there is no verdict        |
| `score`              | float64?        | null exactly for `infra_error`                       |
| `status`             | string          | status of the verdict                                |
| `evidence`           | string (JSON)   | what the verifier saw                                |
| `cpu_ms`, `wall_ms`  | float64         | cost of the verdict                                  |

Rollouts that did not enter the batch (`trainer.batch.learnable`) have null in the columns
that come from it. Pure; the files are services/traces.py's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainer.batch import learnable
from trainer.records import Group, Privileged, Rollout, Task
from verifiers.verdict import Verdict

_FLOATS = pa.list_(pa.float32())
SCHEMA = pa.schema(
    [
        ("step", pa.int32()),
        ("task_id", pa.string()),
        ("group", pa.int32()),
        ("rollout", pa.int32()),
        ("task", pa.string()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("completion_ids", pa.list_(pa.int32())),
        ("text", pa.string()),
        ("finish_reason", pa.string()),
        ("version", pa.int64()),
        ("engine_logprobs", _FLOATS),
        ("teacher_logprobs", _FLOATS),
        ("contrast_logprobs", _FLOATS),
        ("top_ids", pa.list_(pa.int32())),
        ("top_logprobs", _FLOATS),
        ("student_logprobs", _FLOATS),
        ("entropy", _FLOATS),
        ("alternative_ids", pa.list_(pa.int32())),
        ("alternative_logprobs", pa.list_(pa.float16())),
        ("credit", _FLOATS),
        ("token_weights", _FLOATS),
        ("span_mask", pa.list_(pa.bool_())),
        ("teacher_prompt_length", pa.int32()),
        ("teacher_turn", pa.string()),
        ("advantage", pa.float32()),
        ("score", pa.float64()),
        ("status", pa.string()),
        ("evidence", pa.string()),
        ("cpu_ms", pa.float64()),
        ("wall_ms", pa.float64()),
    ]
)
_LATER = {"entropy", "alternative_ids", "alternative_logprobs", "teacher_turn"}
"""Columns that traces of an earlier release lack."""
_PER_TOKEN = (
    "teacher_logprobs",
    "contrast_logprobs",
    "top_ids",
    "top_logprobs",
    "student_logprobs",
    "entropy",
    "alternative_ids",
    "alternative_logprobs",
    "credit",
    "span_mask",
)


class TraceError(ValueError):
    """A trace that cannot be written as asked, or a file that is not a trace."""


@dataclass(frozen=True, slots=True)
class StepTrace:
    """One step as it happened.

    The arrays are flat over the completion tokens of the batch, C of them, in its order
    (`trainer.batch.learnable(groups)`), [C, K] for the likeliest tokens of teacher and learner;
    `teacher_prompt_lengths` is int32[S], 0 where the teacher had no context, and `teacher_turns`
    has S texts, "" there.
    """

    step: int
    groups: tuple[Group, ...]
    teacher_logprobs: NDArray[np.float32] | None = None
    contrast_logprobs: NDArray[np.float32] | None = None
    top_ids: NDArray[np.int32] | None = None
    top_logprobs: NDArray[np.float32] | None = None
    student_logprobs: NDArray[np.float32] | None = None
    entropy: NDArray[np.float32] | None = None
    alternative_ids: NDArray[np.int32] | None = None
    alternative_logprobs: NDArray[np.float16] | None = None
    credit: NDArray[np.float32] | None = None
    span_mask: NDArray[np.bool_] | None = None
    teacher_prompt_lengths: NDArray[np.int32] | None = None
    teacher_turns: tuple[str, ...] | None = None


def rows_of(trace: StepTrace) -> list[dict[str, Any]]:
    """A row for each rollout. Raises TraceError when an array does not fit the groups."""
    where = learnable(trace.groups)
    ends = np.cumsum([len(trace.groups[g].rollouts[r].completion_ids) for g, r in where])
    per_token: dict[str, list[NDArray[Any]]] = {}
    for name in _PER_TOKEN:
        array: NDArray[Any] | None = getattr(trace, name)
        if array is None:
            continue
        if len(array) != (int(ends[-1]) if where else 0):
            raise TraceError(
                f"{name} has shape {array.shape} for {ends[-1] if where else 0} completion tokens"
            )
        per_token[name] = np.split(array, ends[:-1])
    lengths, turns = trace.teacher_prompt_lengths, trace.teacher_turns
    for name, values in (("teacher prompt lengths", lengths), ("teacher turns", turns)):
        if values is not None and len(values) != len(where):
            raise TraceError(f"{len(values)} {name} for {len(where)} sequences")
    sequence = {place: index for index, place in enumerate(where)}
    rows: list[dict[str, Any]] = []
    for g, group in enumerate(trace.groups):
        task = json.dumps(asdict(group.task))
        for r, (rollout, verdict) in enumerate(zip(group.rollouts, group.verdicts, strict=True)):
            row = {
                "step": trace.step,
                "task_id": group.task.id,
                "group": g,
                "rollout": r,
                "task": task,
                "prompt_ids": rollout.prompt_ids,
                "completion_ids": rollout.completion_ids,
                "text": rollout.text,
                "finish_reason": rollout.finish_reason,
                "version": rollout.version,
                "engine_logprobs": rollout.logprobs,
                "advantage": group.advantages[r],
                "score": verdict.score,
                "status": verdict.status,
                "evidence": json.dumps(dict(verdict.evidence)),
                "cpu_ms": verdict.cpu_ms,
                "wall_ms": verdict.wall_ms,
            }
            index = sequence.get((g, r))
            if index is not None:
                row |= {name: arrays[index].ravel() for name, arrays in per_token.items()}
                if "credit" in row:
                    row["token_weights"] = _weights(row["credit"], group.advantages[r])
                if lengths is not None:
                    row["teacher_prompt_length"] = lengths[index]
                if turns is not None:
                    row["teacher_turn"] = turns[index]
            rows.append(row)
    return rows


def _weights(credit: NDArray[np.float32], advantage: np.float32) -> NDArray[np.float32]:
    return credit / advantage if advantage != 0 else np.ones_like(credit)


def step_of(table: pa.Table) -> StepTrace:
    """What the rows of a table were made of. Raises TraceError when they are no step's."""
    if missing := sorted(set(SCHEMA.names) - _LATER - set(table.schema.names)):
        raise TraceError(f"is not a trace: it lacks {', '.join(missing)}")
    if table.num_rows == 0:
        raise TraceError("holds no rollout")
    rows = [dict(zip(SCHEMA.names, row, strict=True)) for row in _by_row(table)]
    members: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        members.setdefault(row["group"], []).append(row)
    groups = tuple(_group(member) for member in members.values())
    ordered = [row for member in members.values() for row in member]
    at = _offsets(groups)
    inside = [ordered[at[g] + r] for g, r in learnable(groups)]

    def flat(name: str, dtype: type[np.generic]) -> NDArray[Any] | None:
        if any(row[name] is None for row in inside) or not inside:
            return None
        return np.concatenate([row[name] for row in inside]).astype(dtype)

    def wide(name: str, dtype: type[np.generic]) -> NDArray[Any] | None:
        values = flat(name, dtype)
        tokens = sum(len(row["completion_ids"]) for row in inside)
        return None if values is None else values.reshape(tokens, -1)

    lengths = [row["teacher_prompt_length"] for row in inside]
    turns = [row["teacher_turn"] for row in inside]
    return StepTrace(
        step=rows[0]["step"],
        groups=groups,
        teacher_logprobs=flat("teacher_logprobs", np.float32),
        contrast_logprobs=flat("contrast_logprobs", np.float32),
        top_ids=wide("top_ids", np.int32),
        top_logprobs=wide("top_logprobs", np.float32),
        student_logprobs=flat("student_logprobs", np.float32),
        entropy=flat("entropy", np.float32),
        alternative_ids=wide("alternative_ids", np.int32),
        alternative_logprobs=wide("alternative_logprobs", np.float16),
        credit=flat("credit", np.float32),
        span_mask=flat("span_mask", np.bool_),
        teacher_prompt_lengths=None
        if not lengths or None in lengths
        else np.array(lengths, dtype=np.int32),
        teacher_turns=None if not turns or None in turns else tuple(turns),
    )


def _by_row(table: pa.Table) -> zip[tuple[Any, ...]]:
    """The table's rows, lists as numpy arrays: a token is not a Python object."""
    columns: list[Sequence[Any]] = []
    for name in SCHEMA.names:
        if name not in table.schema.names:
            columns.append([None] * table.num_rows)
            continue
        column = table.column(name).combine_chunks()
        if pa.types.is_list(column.type):
            values = column.values.to_numpy(zero_copy_only=False)
            offsets = column.offsets.to_numpy()
            columns.append(
                [
                    values[start:end] if valid else None
                    for start, end, valid in zip(
                        offsets[:-1], offsets[1:], column.is_valid().to_pylist(), strict=True
                    )
                ]
            )
        else:
            columns.append(column.to_pylist())
    return zip(*columns, strict=True)


def _offsets(groups: Sequence[Group]) -> list[int]:
    return np.cumsum([0, *(len(group.rollouts) for group in groups)]).tolist()


def _group(rows: list[dict[str, Any]]) -> Group:
    task = json.loads(rows[0]["task"])
    privileged = task["privileged"]
    return Group(
        task=Task(
            id=task["id"],
            messages=tuple(task["messages"]),
            verifier=task["verifier"],
            privileged=Privileged(
                answer=privileged["answer"],
                trace=privileged["trace"],
                documents=tuple(privileged["documents"]),
                document_ids=tuple(privileged.get("document_ids", ())),
            ),
        ),
        rollouts=tuple(
            Rollout(
                prompt_ids=np.array(row["prompt_ids"], dtype=np.int32),
                completion_ids=np.array(row["completion_ids"], dtype=np.int32),
                logprobs=np.array(row["engine_logprobs"], dtype=np.float32),
                text=row["text"],
                version=row["version"],
                finish_reason=row["finish_reason"],
            )
            for row in rows
        ),
        verdicts=tuple(
            Verdict(
                score=row["score"],
                status=row["status"],
                evidence=json.loads(row["evidence"]),
                cpu_ms=row["cpu_ms"],
                wall_ms=row["wall_ms"],
            )
            for row in rows
        ),
        advantages=np.array([row["advantage"] for row in rows], dtype=np.float32),
    )
