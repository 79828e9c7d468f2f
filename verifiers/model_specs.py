"""What a task asks of a model that judges: OpenAI's `score_model` and `label_model`.

The messages are templates, as those of verifiers/grader_specs.py. Which model answers is
said by name; where it is asked is the operator's to say (verifiers/model_endpoint.py).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic import field_validator as validator

from verifiers import templates

Label = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Limit = Annotated[float, Field(allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GraderMessage(_Strict):
    """One message to the model that judges."""

    role: Literal["system", "developer", "user", "assistant"] = Field(description="Who speaks.")
    content: str = Field(
        max_length=100_000, description="A text, or parts of text in a list; a template."
    )
    type: Literal["message"] | None = Field(None, description="As in OpenAI's graders.")

    @validator("content", mode="before")
    @classmethod
    def _as_text(cls, content: object) -> object:
        """Parts as one text, a line each."""
        parts = cast("list[object]", content) if isinstance(content, list) else [content]
        return content if isinstance(content, str) else "\n".join(map(_text_of, parts))


def _text_of(part: object) -> str:
    if isinstance(part, str):
        return part
    fields = cast("dict[str, Any]", part if isinstance(part, dict) else {"type": part})
    kind, text = fields.get("type"), fields.get("text")
    if kind not in ("input_text", "output_text", "text") or not isinstance(text, str):
        raise ValueError(
            f"is a text or parts of text ({{'type': 'input_text', 'text': ...}}), not "
            f"{str(kind)[:80]!r}: the model that judges is sent text alone"
        )
    return text


class GraderSampling(_Strict):
    """How the model that judges is sampled. What is left open is that model's default."""

    max_completions_tokens: int = Field(
        2048, ge=1, le=100_000, description="Most tokens of its answer."
    )
    temperature: float | None = Field(None, ge=0, le=2, description="Randomness.")
    top_p: float | None = Field(
        None, gt=0, le=1, description="Draw from the likeliest tokens of this mass."
    )
    seed: int | None = Field(None, ge=0, lt=2**63, description="The same seed, the same answer.")
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        Field(None, description="For models that have such a switch.")
    )


class _Asked(_Strict):
    model: str = Field(
        min_length=1, max_length=512, description="The model that judges, as its endpoint names it."
    )
    input: tuple[GraderMessage, ...] = Field(
        min_length=1, max_length=64, description="What it is told; templates."
    )
    sampling_params: GraderSampling = Field(
        default_factory=lambda: GraderSampling(),  # pyright: ignore[reportCallIssue]
        description="How it is sampled.",
    )
    item: dict[str, Any] = Field(
        default_factory=dict[str, Any], description="What `item` stands for in the templates."
    )
    deadline_s: float = Field(60.0, gt=0, le=120, description="Seconds for all attempts together.")
    retries: int = Field(2, ge=0, le=5, description="Further attempts after a failed one.")

    @property
    def granted_s(self) -> float:
        """Wall seconds that judging may take."""
        return self.deadline_s + 5.0

    @model_validator(mode="after")
    def _renders(self) -> Self:
        for number, message in enumerate(self.input):
            try:
                templates.check(message.content, self.item)
            except templates.TemplateError as error:
                raise ValueError(f"input.{number}.content: {error}") from None
        if not any(templates.uses(message.content, "sample") for message in self.input):
            raise ValueError(
                "input: no message looks at the sample: every completion would be judged alike; "
                "write {{ sample.output_text }}"
            )
        return self


class ScoreModelSpec(_Asked):
    """A score that a model gives, a number in `range`."""

    kind: Literal["score_model"] = "score_model"
    range: tuple[Limit, Limit] = Field(
        (0.0, 1.0),
        description="Lowest and highest score it may give; they become 0 and 1.",
    )
    pass_threshold: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Score, from 0 to 1, from which the completion counts as correct.",
    )

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if not self.range[0] < self.range[1]:
            raise ValueError(f"range: {list(self.range)} is not a lowest and a highest score")
        return self


class LabelModelSpec(_Asked):
    """A label that a model chooses: 1 where it is a passing one, 0 otherwise."""

    kind: Literal["label_model"] = "label_model"
    labels: tuple[Label, ...] = Field(
        min_length=2, max_length=64, description="The labels to choose from."
    )
    passing_labels: tuple[Label, ...] = Field(
        min_length=1, description="Those that make the completion correct."
    )

    @model_validator(mode="after")
    def _can_pass_and_fail(self) -> Self:
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("labels: one stands there twice")
        if unknown := sorted(set(self.passing_labels) - set(self.labels)):
            raise ValueError(f"passing_labels: {unknown[0]!r} is none of the labels")
        if set(self.passing_labels) == set(self.labels):
            raise ValueError("passing_labels: are all of the labels: nothing could fail")
        return self


ModelSpec = ScoreModelSpec | LabelModelSpec
