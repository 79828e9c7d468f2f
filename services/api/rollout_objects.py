"""The wire of rollouts: a row of a trace as JSON, which has neither NaN nor infinity.

Pure: rows in, plain data out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, cast

from pydantic import BaseModel, Field

from services.api.pages import Page
from services.trace_search import Place, Row
from services.trace_vocabulary import Vocabulary
from verifiers.verdict import Status

Numbers = list[float | None]


class RolloutObject(BaseModel):
    """A completion that was sampled, with its verdict."""

    id: str = Field(description="`<step>-<group>-<rollout>`, unique within its job.")
    object: Literal["fine_tuning.job.rollout"] = Field(
        default="fine_tuning.job.rollout", description="Kind of object."
    )
    step: int = Field(description="The step that learned from it, from 1 as in events.")
    group: int = Field(description="Its group in the step, from 0: rollouts of one task.")
    rollout: int = Field(description="Its place in the group, from 0.")
    task_id: str = Field(description="The task.")
    verifier: str = Field(description="Kind of the task's verifier.")
    status: Status = Field(description="What the verifier found.")
    score: float | None = Field(description="Reward in [0, 1]; null for `infra_error`.")
    advantage: float | None = Field(description="Group-relative advantage; null without a score.")
    finish_reason: str = Field(description="`stop`, `length` or `abort`.")
    tokens: int = Field(description="Tokens of the completion.")
    version: int = Field(description="Version of the policy that sampled it.")
    text: str = Field(description="The completion, without special tokens.")
    evidence: dict[str, Any] = Field(description="What the verifier saw.")
    cpu_ms: float = Field(description="CPU time of the verdict, milliseconds.")
    wall_ms: float = Field(description="Time of the verdict, milliseconds.")


class PrivilegedObject(BaseModel):
    """What only the teacher read of a rollout's task."""

    kind: str = Field(description="`privileged.kind` of the job.")
    text: str | None = Field(
        description="What was added to the prompt, as the teacher read it; null where it read "
        "nothing, or where an earlier release did not keep it."
    )
    tokens: int | None = Field(description="Tokens that it added to the prompt; null likewise.")


class StreamsObject(BaseModel):
    """A number for each token of the completion; null for a stream that the algorithm has not,
    and for tokens where it is not known. Log-probs and entropies in nats."""

    credit: Numbers | None = Field(description="Advantage of the token: advantage x weight.")
    weight: Numbers | None = Field(description="Credit over the rollout's advantage.")
    evidence: Numbers | None = Field(
        description="Log-prob of the teacher minus the learner's, or with a contrast minus what the "
        "teacher says under wrong answers."
    )
    teacher_logprob: Numbers | None = Field(description="Of the teacher, which saw more.")
    contrast_logprob: Numbers | None = Field(description="Of the teacher under wrong answers.")
    student_logprob: Numbers | None = Field(description="Of the learner, before the step.")
    engine_logprob: Numbers | None = Field(description="Of the engine that sampled it.")
    entropy: Numbers | None = Field(description="Of the learner's distribution at this place.")


class AlternativeObject(BaseModel):
    """A token that could have stood at a place."""

    id: int = Field(description="The token's number.")
    text: str = Field(description="What it says; U+FFFD for a part of a character.")
    logprob: float | None = Field(description="Its log-prob, nats.")


Alternatives = list[list[AlternativeObject]]


class RolloutDetail(RolloutObject):
    """A rollout with its task, what the teacher saw, and every number of its tokens."""

    messages: list[dict[str, Any]] = Field(description="The chat that it answers.")
    verifier_spec: dict[str, Any] = Field(description="What the task asks of its verifier.")
    privileged: PrivilegedObject | None = Field(
        description="What only the teacher read; null where there is no such teacher."
    )
    token_texts: list[str] | None = Field(
        description="What each token adds to the text, special tokens too; null for a trace of an "
        "earlier release."
    )
    token_ids: list[int] = Field(description="The numbers of the tokens.")
    special_tokens: list[int] = Field(
        description="Places of tokens that are not in the text, from 0; none where `token_texts` is "
        "null."
    )
    streams: StreamsObject = Field(description="A number for each token.")
    alternatives: Alternatives | None = Field(
        description="The learner's likeliest tokens at each place, the likeliest first; an empty "
        "list where it was not asked, null where a job keeps none (`traces.alternatives`)."
    )
    teacher_alternatives: Alternatives | None = Field(
        description="The teacher's likewise, where the algorithm compares them (`top_k`)."
    )


class RolloutPage(Page):
    """A page of rollouts.

    A search that would take long ends early: there may be fewer than `limit` while more
    follow, none even. It goes on behind `last_id`.
    """

    data: list[RolloutObject] = Field(description="The rollouts.")


_STREAMS = {
    "credit": "credit",
    "weight": "token_weights",
    "teacher_logprob": "teacher_logprobs",
    "contrast_logprob": "contrast_logprobs",
    "student_logprob": "student_logprobs",
    "engine_logprob": "engine_logprobs",
    "entropy": "entropy",
}
_ALTERNATIVES = {
    "alternatives": ("alternative_ids", "alternative_logprobs"),
    "teacher_alternatives": ("top_ids", "top_logprobs"),
}
_DIGITS = 6
"""Significant digits of a number: what float32 has, and no more."""


def rollout_object(place: Place, row: Row) -> dict[str, Any]:
    """A row as a RolloutObject."""
    own = ("task_id", "verifier", "status", "finish_reason", "version", "text")
    numbers = ("score", "advantage", "cpu_ms", "wall_ms")
    return {
        "id": str(place),
        "object": "fine_tuning.job.rollout",
        **place._asdict(),
        **{name: row[name] for name in own},
        **{name: _number(row[name]) for name in numbers},
        "tokens": row["tokens"],
        "evidence": _finite(row["evidence"]),
    }


def rollout_detail(
    place: Place, row: Row, view: str | None, vocabulary: Vocabulary | None
) -> dict[str, Any]:
    """A row with every column as a RolloutDetail; `view` is the job's `privileged.kind`."""
    ids: list[int] = row["completion_ids"]
    streams = {name: _numbers(row.get(column)) for name, column in _STREAMS.items()}
    contrast = streams["contrast_logprob"]
    against = streams["student_logprob"] if contrast is None else contrast
    streams["evidence"] = _difference(streams["teacher_logprob"], against)
    return {
        **rollout_object(place, {**row, "tokens": len(ids)}),
        "messages": row["task"]["messages"],
        "verifier_spec": _finite(row["task"]["verifier"]),
        "privileged": None if view is None else {"kind": view, **_privileged(row)},
        "token_texts": None if vocabulary is None else vocabulary.texts(ids),
        "token_ids": ids,
        "special_tokens": []
        if vocabulary is None
        else [place for place, token in enumerate(ids) if token in vocabulary.special],
        "streams": streams,
        **{
            name: _alternatives(row.get(tokens), row.get(logprobs), len(ids), vocabulary)
            for name, (tokens, logprobs) in _ALTERNATIVES.items()
        },
    }


def tokens_named(row: Row) -> set[int]:
    """Every token that a detail of the row tells the text of."""
    columns = ("completion_ids", *(ids for ids, _ in _ALTERNATIVES.values()))
    return {token for name in columns for token in row.get(name) or () if token >= 0}


def _privileged(row: Row) -> dict[str, Any]:
    length = row["teacher_prompt_length"]
    if not length:
        return {"text": None, "tokens": None}
    return {"text": row.get("teacher_turn"), "tokens": length - len(row["prompt_ids"])}


def _alternatives(
    ids: Sequence[int] | None,
    logprobs: Sequence[float] | None,
    places: int,
    vocabulary: Vocabulary | None,
) -> list[list[dict[str, Any]]] | None:
    if ids is None or logprobs is None or not places:
        return None
    said = vocabulary or Vocabulary({})
    width = len(ids) // places
    flat: list[dict[str, Any]] = [
        {"id": token, "text": said.text(token), "logprob": _number(logprob)}
        for token, logprob in zip(ids, logprobs, strict=True)
    ]
    return [
        [one for one in flat[start : start + width] if one["id"] >= 0]
        for start in range(0, len(flat), width)
    ]


def _numbers(values: Sequence[float] | None) -> Numbers | None:
    return None if values is None else [_number(value) for value in values]


def _number(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{_DIGITS}g}")


def _difference(a: Numbers | None, b: Numbers | None) -> Numbers | None:
    if a is None or b is None:
        return None
    return [None if x is None or y is None else _number(x - y) for x, y in zip(a, b, strict=True)]


def _finite(value: Any) -> Any:
    """Plain data with null for what JSON cannot say."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {name: _finite(part) for name, part in fields.items()}
    if isinstance(value, list):
        return [_finite(part) for part in cast("list[Any]", value)]
    return value
