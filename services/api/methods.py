"""What a job request's `method` may be, and what it means in the fields of a job spec.

    {"type": "strop", "strop": {job spec}}                      everything, as in a job file
    {"type": "rlsd", "rlsd": {"mix": ..., "steps": 50, ...}}     an algorithm in one word
    {"type": "reinforcement", "reinforcement": {"grader": ..., "hyperparameters": ...}}

A word's object holds the algorithm's own settings and, beside them, any section of a job
spec. `grader` and OpenAI's `hyperparameters` are understood in every word; with
`reinforcement` the algorithm follows from the items (`chosen`). What means nothing here is
refused by name, and what is put into other words is told in `notes`. Pure: reads no files.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from pydantic import BaseModel, ConfigDict, Field

from services.api import hyperparameters
from services.config import JobSpec
from services.errors import InvalidRequest, Problem
from trainer.records import Task

Word = Literal["rlsd", "grpo", "opd", "opsd", "grpo_opsd", "sdpo"]
WORDS: tuple[Word, ...] = get_args(Word)
SECTIONS = frozenset(JobSpec.model_fields) - {"algorithm"}
VIEWS = ("trace", "answer", "documents")
"""What makes an item privileged, the most telling first."""

_REFUSED = {
    "supervised": "imitates example answers, and this service has no such training: it learns from "
    "verified completions. Take `reinforcement` with a grader, or a word such as `rlsd`",
    "dpo": "learns from pairs of answers, and this service has no such training: it learns from "
    "verified completions. Take `reinforcement` with a grader, or a word such as `rlsd`",
}

_Object = dict[str, Any]


def _word(kind: Word) -> Any:
    return Field(
        default=None,
        description=f"Settings of the algorithm `{kind}`, sections of the job spec (`steps`, "
        "`sampling`, `privileged`, ...), and OpenAI's `grader` and `hyperparameters`.",
    )


class Method(BaseModel):
    """How to train: `type`, and the object of that name."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"type": "rlsd", "rlsd": {"steps": 100, "privileged": {"kind": "answer"}}},
                {
                    "type": "reinforcement",
                    "reinforcement": {
                        "grader": {
                            "type": "string_check",
                            "name": "city",
                            "input": "{{ sample.output_text }}",
                            "reference": "{{ item.city }}",
                            "operation": "eq",
                        },
                        "hyperparameters": {"n_epochs": 2},
                    },
                },
            ]
        },
    )

    type: Literal[Word, "reinforcement", "strop", "supervised", "dpo"] = Field(
        description="The kind of training. `supervised` and `dpo` are known and refused."
    )
    strop: _Object | None = Field(
        default=None, description="A whole job spec; its JSON Schema is at `/v1/config/schema`."
    )
    reinforcement: _Object | None = Field(
        default=None,
        description="OpenAI's reinforcement: `grader` and `hyperparameters`, and sections of the "
        "job spec. RLSD where every item has privileged information, GRPO otherwise.",
    )
    rlsd: _Object | None = _word("rlsd")
    grpo: _Object | None = _word("grpo")
    opd: _Object | None = _word("opd")
    opsd: _Object | None = _word("opsd")
    grpo_opsd: _Object | None = _word("grpo_opsd")
    sdpo: _Object | None = _word("sdpo")
    supervised: _Object | None = Field(default=None, description="Refused.")
    dpo: _Object | None = Field(default=None, description="Refused.")


OF_REQUEST = {
    "model.path": "model",
    "tasks.train": "training_file",
    "tasks.holdout": "validation_file",
    "seed": "seed",
    "name": "suffix",
    "tracking": "integrations",
}
"""Fields of a request that say what the spec has at a path."""


@dataclass(slots=True)
class Wish:
    """What a request asks for, in the fields of a job spec.

    `data` is the spec as far as it is said; `files` has the names of its files by where they lie; `epochs` decides its steps once the tasks are
    known, and `chooses` says that they decide its algorithm too. `problems` holds what is
    wrong so far, `notes` what was put into other words.
    """

    type: str
    data: dict[str, Any]
    epochs: int | None = None
    problems: list[Problem] = field(default_factory=list[Problem])
    files: dict[str, str] = field(default_factory=dict[str, str])
    notes: list[str] = field(default_factory=list[str])

    @property
    def chooses(self) -> bool:
        """Whether the algorithm follows from the tasks."""
        return self.type == "reinforcement" and "algorithm" not in self.data

    def field(self, path: str) -> str:
        """Where the request says what the spec has at `path` ("job" for the whole)."""
        prefix = f"method.{self.type}"
        if path == "job":
            return prefix
        if self.type == "strop":
            return f"{prefix}.{path}"
        if path in OF_REQUEST:
            return OF_REQUEST[path]
        for own in (f"algorithm.{self.type}.", "algorithm.", "tasks.grader"):
            if path.startswith(own):
                rest = "grader" if own == "tasks.grader" else path.removeprefix(own)
                return f"{prefix}.{rest}"
        return f"{prefix}.{path}"

    def words(self, message: str) -> str:
        """A message about the spec, in the request's names of its fields."""
        for path in OF_REQUEST:
            if "." in path:
                message = message.replace(path, self.field(path))
        return message

    def refusal(self, more: Sequence[Problem] = ()) -> InvalidRequest:
        """Every problem, in which files are called as the request calls them."""
        told = [*self.problems, *more]
        for path, name in self.files.items():
            told = [Problem(p.field, p.message.replace(path, name)) for p in told]
        return InvalidRequest(told)

    def complete(self, path: str, value: object, said: str) -> None:
        """Set what the spec has at `path` where it is silent; a contradiction is a problem."""
        data = self.data
        *parents, leaf = path.split(".")
        for parent in parents:
            child = data.setdefault(parent, {})
            if not isinstance(child, dict):
                return  # malformed: the spec's own validation names it
            data = cast("dict[str, Any]", child)
        if data.get(leaf) is None:
            data[leaf] = value
        if data[leaf] != value:
            where = f"method.{self.type}.{path}"
            self.problems.append(
                Problem(said, f"{value!r} contradicts {where}; give one of the two")
            )


def wish_of(method: Method) -> Wish:
    """What the method asks for. Whatever is wrong with it is among the wish's problems."""
    given = method.model_dump(exclude_none=True)
    kind = method.type
    wish = Wish(kind, copy.deepcopy(given.get(kind, {})))
    for other in sorted(set(given) - {"type", kind}):
        wish.problems.append(
            Problem(f"method.{other}", f"is set, but method.type is {kind}: leave it out")
        )
    if kind in _REFUSED:
        wish.problems.append(Problem("method.type", f"{kind} fine-tuning {_REFUSED[kind]}"))
    elif kind == "strop":
        if method.strop is None:
            wish.problems.append(Problem("method.strop", "is missing: it is the job spec"))
    else:
        _in_one_word(wish)
    return wish


def _in_one_word(wish: Wish) -> None:
    """Sort a word's object into the sections of a spec."""
    given, kind = wish.data, wish.type
    grader, theirs = given.pop("grader", None), given.pop("hyperparameters", None)
    own = {name: given.pop(name) for name in sorted(set(given) - SECTIONS)}
    if kind == "reinforcement":
        if grader is None:
            wish.problems.append(
                Problem("method.reinforcement.grader", "is missing: it says what is right")
            )
        for name in own:
            told = "is no setting of reinforcement; settings of an algorithm need its word as type"
            wish.problems.append(Problem(f"method.reinforcement.{name}", told))
    else:
        # `kind` last: nobody says one word and means another.
        given["algorithm"] = {**own, "kind": kind}
    if grader is not None:
        wish.complete("tasks.grader", grader, wish.field("tasks.grader"))
    if theirs is not None:
        _translate(wish, theirs)


def _translate(wish: Wish, given: object) -> None:
    """Put OpenAI's hyperparameters into the fields of a spec."""
    where = f"method.{wish.type}.hyperparameters"
    known = hyperparameters.read(given)
    if isinstance(known, list):
        wish.problems += [Problem(f"{where}.{name}".rstrip("."), told) for name, told in known]
        return
    for setting in hyperparameters.settings(known):
        wish.complete(setting.path, setting.value, f"{where}.{setting.name}")
        wish.notes.append(setting.note)
    if known.n_epochs != "auto":
        if wish.data.get("steps") is not None:
            told = f"contradicts method.{wish.type}.steps; give one of the two"
            wish.problems.append(Problem(f"{where}.n_epochs", told))
        wish.epochs = known.n_epochs


def decided(wish: Wish, tasks: Sequence[Task], spec: JobSpec) -> dict[str, Any]:
    """What the tasks decide of a spec that is otherwise whole: algorithm, view, steps."""
    found: dict[str, Any] = {}
    if wish.chooses:
        algorithm, view, why = chosen(tasks)
        found["algorithm"] = algorithm
        if view is not None and wish.data.get("privileged") is None:
            found["privileged"] = view
        wish.notes.append(why)
    if wish.epochs is not None:
        size = spec.sampling.groups_per_step
        found["steps"] = math.ceil(wish.epochs * len(tasks) / size)
        wish.notes.append(
            f"hyperparameters.n_epochs {wish.epochs}: {len(tasks)} tasks, {size} in one step (steps "
            f"{found['steps']})"
        )
    return found


def chosen(tasks: Sequence[Task]) -> tuple[dict[str, Any], dict[str, Any] | None, str]:
    """The algorithm that fits the tasks, what its teacher sees, and why in a sentence."""
    counts = {view: sum(bool(getattr(t.privileged, view)) for t in tasks) for view in VIEWS}
    for view, count in counts.items():
        if tasks and count == len(tasks):
            why = f"every item has a privileged {view}: rlsd, whose teacher sees it"
            return {"kind": "rlsd"}, {"kind": view}, why
    partly = [f"{count} of {len(tasks)} have {view}" for view, count in counts.items() if count]
    why = ", ".join(partly) or "no item has any"
    return {"kind": "grpo"}, None, f"not every item has privileged information ({why}): grpo"
