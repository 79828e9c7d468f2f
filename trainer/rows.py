"""One row of a task file, as the user wrote it, becomes a `Task`.

Strop's own fields are defined here; rows of verl and EasyR1 (`trainer.verl_rows`), and items
that a grader of the job judges (`trainer.openai_rows`), are first put into them. Whatever is
wrong with a row is told at once, by field. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from trainer import openai_rows, verl_rows
from trainer.records import Privileged, Task
from verifiers.openai_graders import Grader
from verifiers.spec import SpecError, parse_spec

_VALUE_SHOWN = 60

Text = Annotated[str, StringConstraints(min_length=1)]


@dataclass(frozen=True, slots=True)
class Malformed:
    """Problems of one row, as (field, message)."""

    problems: tuple[tuple[str | None, str], ...]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _TextPart(_Strict):
    type: Literal["text"]
    text: str


class _ImageUrl(_Strict):
    url: Text


class _ImagePart(_Strict):
    type: Literal["image_url"]
    image_url: _ImageUrl


_Part = Annotated[_TextPart | _ImagePart, Field(discriminator="type")]


class _Message(_Strict):
    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[_Part]


class _Privileged(_Strict):
    answer: Text | None = None
    trace: Text | None = None
    documents: list[Text] = Field(default_factory=list[str])
    document_ids: list[Text] = Field(default_factory=list[str])


class _Row(_Strict):
    id: Text | None = None
    messages: list[_Message] | None = Field(None, min_length=1)
    prompt: Text | None = None
    verifier: dict[str, Any]
    privileged: _Privileged = Field(default_factory=_Privileged)

    @model_validator(mode="after")
    def _one_prompt(self) -> _Row:
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("a task has either `messages` or `prompt`, and not both")
        if self.messages and self.messages[-1].role == "assistant":
            raise ValueError("`messages` end with the assistant: nothing is left to sample")
        return self


def read_row(
    row: Mapping[str, Any], default_id: str, grader: Grader | None = None
) -> Task | Malformed:
    """The task of a row, called `default_id` unless it has an id; judged by `grader` if given."""
    try:
        if grader is not None:
            row = openai_rows.translated(row, grader)
        elif verl_rows.is_foreign(row):
            row = verl_rows.translated(row)
    except (openai_rows.ItemError, verl_rows.ForeignRowError) as error:
        return Malformed(((error.field, str(error)),))
    parsed: _Row | None = None
    problems: list[tuple[str | None, str]] = []
    try:
        parsed = _Row.model_validate(row)
    except ValidationError as error:
        problems += _told(error)
    verifier = row.get("verifier")
    if isinstance(verifier, dict):
        try:
            parse_spec(cast("dict[str, Any]", verifier))
        except SpecError as error:
            problems.append(("verifier", str(error)))
    if parsed is None or problems:
        return Malformed(tuple(problems))
    messages = parsed.messages or [_Message(role="user", content=parsed.prompt or "")]
    return Task(
        id=parsed.id or default_id,
        messages=tuple(message.model_dump() for message in messages),
        verifier=parsed.verifier,
        privileged=Privileged(
            answer=parsed.privileged.answer,
            trace=parsed.privileged.trace,
            documents=tuple(parsed.privileged.documents),
            document_ids=tuple(parsed.privileged.document_ids),
        ),
    )


def _told(error: ValidationError) -> Iterator[tuple[str | None, str]]:
    """Each problem as (field, message), in the field's own words."""
    for item in error.errors(include_url=False, include_context=False):
        *above, branch = item["loc"] or (None,)
        if branch == "str" and isinstance(item["input"], list):
            continue  # content of parts: what is wrong with them is told by itself
        if item["type"] == "list_type" and str(branch).startswith("list["):
            continue  # content that is neither: told once, as a text
        path = above if branch == "str" else item["loc"]
        field = ".".join(str(part) for part in path if not str(part).startswith("list[")) or None
        message = item["msg"].removeprefix("Value error, ")
        if field and item["type"] not in ("missing", "extra_forbidden"):
            message = f"{message}, not {shown(item['input'])}"
        yield field, message


def shown(value: object) -> str:
    """A value as a message shows it."""
    text = repr(value)
    return text if len(text) <= _VALUE_SHOWN else f"{text[:_VALUE_SHOWN]}..."
