"""OpenAI's hyperparameters of reinforcement fine-tuning, in the fields of a job spec and back.

`auto` leaves the spec's default. Each one that is given has one meaning here, which is told
in a note; one that means nothing here is refused. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.job_sections import SamplingSpec
from trainer.spec import OptimizerSpec

_Auto = Literal["auto"]
_Count = Annotated[int, Field(ge=1, le=1_000_000)]
_Factor = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]

RATE: float = OptimizerSpec.model_fields["learning_rate"].default
GROUP: int = SamplingSpec.model_fields["group_size"].default


class Hyperparameters(BaseModel):
    """What OpenAI's clients may set."""

    model_config = ConfigDict(extra="forbid")

    n_epochs: _Auto | _Count = Field(
        default="auto", description="Passes over the tasks; decides `steps`."
    )
    batch_size: _Auto | _Count = Field(
        default="auto", description="Tasks in one learning step: `sampling.groups_per_step`."
    )
    learning_rate_multiplier: _Auto | _Factor = Field(
        default="auto", description="Times the default `optimizer.learning_rate`."
    )
    compute_multiplier: _Auto | _Factor = Field(
        default="auto", description="Times the default `sampling.group_size`, at least 2."
    )
    eval_interval: _Auto | _Count = Field(
        default="auto", description="Steps between evaluations: `evaluation.every`."
    )
    eval_samples: _Auto | _Count = Field(
        default="auto", description="Completions of each held-out task: `evaluation.samples`."
    )
    reasoning_effort: Literal["default"] = Field(
        default="default", description="The models trained here have no such switch."
    )


@dataclass(frozen=True, slots=True)
class Setting:
    """A hyperparameter as the spec's field `path` has it; `note` says so to a person."""

    name: str
    path: str
    value: float
    note: str


def read(given: object) -> Hyperparameters | list[tuple[str, str]]:
    """The hyperparameters, or what is wrong with them as (name, message)."""
    if not isinstance(given, dict):
        return [("", "must be an object")]
    # OpenAI's clients may send what is not set as null.
    fields = cast("dict[str, Any]", given)
    try:
        return Hyperparameters.model_validate(
            {name: value for name, value in fields.items() if value is not None}
        )
    except ValidationError as error:
        told: dict[str, str] = {}
        for item in error.errors(include_url=False, include_context=False):
            name = str(item["loc"][0])
            if item["type"] == "extra_forbidden":
                told[name] = f"is not known; there are {', '.join(Hyperparameters.model_fields)}"
            elif name == "reasoning_effort":
                told[name] = (
                    f"is {item['input']!r}, but the models trained here have no such switch: "
                    "leave it out"
                )
            else:
                told[name] = f"is {item['input']!r}; it may be `auto` or a positive number"
        return list(told.items())


def settings(given: Hyperparameters) -> Iterator[Setting]:
    """What they set in a spec; `n_epochs` is left to whoever knows the tasks."""

    def setting(name: str, path: str, value: float, meaning: str) -> Setting:
        asked = getattr(given, name)
        return Setting(
            name, path, value, f"hyperparameters.{name} {asked}: {meaning} ({path} {value:g})"
        )

    if given.batch_size != "auto":
        path = "sampling.groups_per_step"
        yield setting("batch_size", path, given.batch_size, "tasks in one step")
    if given.learning_rate_multiplier != "auto":
        value = given.learning_rate_multiplier * RATE
        path = "optimizer.learning_rate"
        yield setting("learning_rate_multiplier", path, value, f"times {RATE:g}")
    if given.compute_multiplier != "auto":
        value = max(2, round(given.compute_multiplier * GROUP))
        meaning = f"times {GROUP} completions of each task"
        yield setting("compute_multiplier", "sampling.group_size", value, meaning)
    if given.eval_interval != "auto":
        meaning = "steps between evaluations"
        yield setting("eval_interval", "evaluation.every", given.eval_interval, meaning)
    if given.eval_samples != "auto":
        meaning = "completions of each held-out task"
        yield setting("eval_samples", "evaluation.samples", given.eval_samples, meaning)


def shown(spec: Mapping[str, Any], n_epochs: int | None) -> dict[str, Any]:
    """A resolved spec in OpenAI's terms, with the epochs that were asked for, if any were."""
    return {
        "n_epochs": n_epochs,
        "batch_size": spec["sampling"]["groups_per_step"],
        "learning_rate_multiplier": spec["optimizer"]["learning_rate"] / RATE,
    }
