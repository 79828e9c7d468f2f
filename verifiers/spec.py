"""What a task asks of its verifier: one pydantic model a kind, a union on `kind`.

Field names are fixed: task files outlive versions. What can be checked without a
completion is checked here (the schema compiles, the gold answer can be read, the label
exists), so that a bad task is found before any actor starts. Knows no judge.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from verifiers import choices, compiled_schema, patterns, reading, strict_json
from verifiers.code_spec import CodeSpec, PythonSpec
from verifiers.expression import TooLargeError, UnreadableError
from verifiers.extract import Extract, FencedBlock, Final
from verifiers.formula import Formula, FormulaError
from verifiers.grader_specs import StringCheckSpec, TextSimilaritySpec
from verifiers.model_specs import LabelModelSpec, ScoreModelSpec
from verifiers.notation import balanced, normalize
from verifiers.remote_spec import RemoteSpec
from verifiers.sql_spec import SqlSpec


class SpecError(ValueError):
    """A verifier spec that cannot be used; the message names the field."""


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True)


class MathSpec(_Spec):
    """A number, formula, set, interval, equation or name, equal to `answer`."""

    kind: Literal["math"] = "math"
    answer: str = Field(
        max_length=10_000, description="The gold answer, in LaTeX or plain notation."
    )
    extract: Extract = Field(Final(), description="Where the completion's answer is found.")

    @model_validator(mode="after")
    def _readable(self) -> Self:
        text = normalize(self.answer)
        if not text or not balanced(text):
            raise ValueError(f"answer: {self.answer[:80]!r} is empty or has unbalanced braces")
        try:
            reading.read(self.answer)
        except UnreadableError as error:
            raise ValueError(f"answer: {error}") from None
        except (reading.ProseError, TooLargeError):
            pass  # compared as words, or as it stands
        return self


class SchemaSpec(_Spec):
    """JSON that fits `schema` and, when `expected` is given, equals it."""

    kind: Literal["schema"] = "schema"
    schema_: dict[str, Any] | bool = Field(
        alias="schema", description="A JSON Schema of any draft; without remote references."
    )
    expected: Any = Field(
        None, description="The JSON value the answer must equal; any that fits when absent."
    )
    extract: Extract = Field(FencedBlock(), description="Where the completion's JSON is found.")

    @cached_property
    def schema_text(self) -> str:
        """The schema as JSON text."""
        return strict_json.dumps(self.schema_)

    @property
    def has_expected(self) -> bool:
        """Whether `expected` was given; `null` is a value."""
        return "expected" in self.model_fields_set

    @model_validator(mode="after")
    def _usable(self) -> Self:
        try:
            validator = compiled_schema.compile_schema(self.schema_text)
        except compiled_schema.SchemaError as error:
            raise ValueError(f"schema: {error}") from None
        if self.has_expected:
            violation = compiled_schema.violation(validator, self.expected)
            if violation is not None:
                raise ValueError(
                    f"expected: does not fit the schema: {violation.message} "
                    f"at {violation.pointer or 'the root'}"
                )
        return self


class ChoiceSpec(_Spec):
    """One of several options, named by its letter or its text."""

    kind: Literal["choice"] = "choice"
    answer: str = Field(description="The letter of the right option, or its text.")
    choices: tuple[str, ...] = Field(
        min_length=2, max_length=26, description="The options; the first is A."
    )
    extract: Extract = Field(Final(), description="Where the completion's choice is found.")

    @property
    def index(self) -> int:
        """Position of the right option, from 0."""
        index = choices.gold_index(self.answer, self.choices)
        assert index is not None, "checked when the spec was made"
        return index

    @model_validator(mode="after")
    def _answerable(self) -> Self:
        if len({choices.fold(choice) for choice in self.choices}) < len(self.choices):
            raise ValueError("choices: two options have the same text")
        if choices.gold_index(self.answer, self.choices) is None:
            last = choices.LABELS[len(self.choices) - 1]
            raise ValueError(
                f"answer: {self.answer[:80]!r} is neither a letter from A to {last} "
                "nor the text of one option"
            )
        return self


class TextSpec(_Spec):
    """A text: equal to `answer`, near to `number`, or matched whole by `regex`."""

    kind: Literal["text"] = "text"
    answer: str | None = Field(
        None, description="The text; runs of white space count as one space."
    )
    number: float | None = Field(
        None, allow_inf_nan=False, description="The number; how near is set by the tolerances."
    )
    tolerance: float = Field(
        0.0, ge=0.0, allow_inf_nan=False, description="Largest absolute error of a number."
    )
    relative_tolerance: float = Field(
        0.0, ge=0.0, le=1.0, description="Largest error of a number as a share of `number`."
    )
    regex: str | None = Field(
        None, description="A pattern in RE2 syntax, which must match the whole answer."
    )
    ignore_case: bool = Field(False, description="Whether upper and lower case are the same.")
    extract: Extract = Field(Final(), description="Where the completion's answer is found.")

    @property
    def gold(self) -> str:
        """What is asked for, as a person reads it."""
        return self.answer or self.regex or str(self.number).removesuffix(".0")

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        asked = [name for name in ("answer", "number", "regex") if getattr(self, name) is not None]
        if len(asked) != 1:
            raise ValueError(
                "text: give one of answer, number and regex, "
                f"not {' and '.join(asked) if asked else 'none'}"
            )
        if self.answer is not None and not self.answer.strip():
            raise ValueError("answer: an empty text would be right for nobody")
        if self.number is None and self.model_fields_set & {"tolerance", "relative_tolerance"}:
            raise ValueError("tolerance: only a number has one")
        if self.number is not None and self.ignore_case:
            raise ValueError("ignore_case: a number has no case")
        if self.regex is not None:
            try:
                patterns.compile_pattern(self.regex, ignore_case=self.ignore_case)
            except patterns.PatternError as error:
                raise ValueError(f"regex: {error}") from None
        return self


class Part(_Spec):
    """One verifier of a composite, and what its score weighs."""

    verifier: VerifierSpec
    weight: float = Field(1.0, gt=0, le=1e6, description="Its share of a weighted sum.")
    name: str | None = Field(None, max_length=80, description="What evidence calls it.")


class CompositeSpec(_Spec):
    """Several verifiers of one completion: a weighted sum, or all of them."""

    kind: Literal["composite"] = "composite"
    parts: tuple[Part, ...] = Field(min_length=1, max_length=16)
    combine: Literal["sum", "all"] = Field(
        "sum", description="`sum`: the weighted mean of the scores; `all`: 1 if all are correct."
    )
    gate: VerifierSpec | None = Field(
        None, description="Must be correct, or the whole is malformed: a format, say."
    )

    @property
    def verifiers(self) -> tuple[AnySpec, ...]:
        """Every verifier below, the gate first."""
        inner = tuple(part.verifier for part in self.parts)
        return inner if self.gate is None else (self.gate, *inner)

    @property
    def granted_s(self) -> float:
        """Wall seconds that judging may take."""
        return sum(granted_s(verifier) for verifier in self.verifiers)

    @model_validator(mode="after")
    def _shallow(self) -> Self:
        for verifier in self.verifiers:
            if isinstance(verifier, CompositeSpec) and any(
                isinstance(inner, CompositeSpec) for inner in verifier.verifiers
            ):
                raise ValueError("parts: a composite may hold composites of plain verifiers only")
        if self.combine == "all" and any("weight" in p.model_fields_set for p in self.parts):
            raise ValueError("weight: means nothing where all must be correct")
        return self


class MultiSpec(_Spec):
    """Several verifiers of one completion, whose scores a formula turns into one."""

    kind: Literal["multi"] = "multi"
    graders: dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w{0,79}$")], VerifierSpec] = Field(
        min_length=1, max_length=16, description="The verifiers, by the name the formula uses."
    )
    calculate_output: str = Field(
        description="Arithmetic over the names: numbers, + - * / ^, min, max, abs, floor, ceil, "
        "exp, sqrt, log. It must lie in [0, 1]."
    )
    pass_threshold: float = Field(
        1.0, gt=0, le=1, description="Score from which the completion counts as correct."
    )

    @property
    def granted_s(self) -> float:
        """Wall seconds that judging may take."""
        return sum(granted_s(verifier) for verifier in self.graders.values())

    @model_validator(mode="after")
    def _computable(self) -> Self:
        for name, grader in self.graders.items():
            if isinstance(grader, MultiSpec | CompositeSpec):
                raise ValueError(f"graders.{name}: must be a plain verifier, not {grader.kind}")
        try:
            formula = Formula(self.calculate_output)
        except FormulaError as error:
            raise ValueError(f"calculate_output: {error}") from None
        if unknown := sorted(formula.names - set(self.graders)):
            raise ValueError(
                f"calculate_output: {unknown[0]!r} is no grader; the graders are "
                f"{', '.join(self.graders)}"
            )
        return self


AnySpec = (
    MathSpec | CodeSpec | SqlSpec | SchemaSpec | ChoiceSpec | TextSpec | CompositeSpec
    | RemoteSpec | PythonSpec | StringCheckSpec | TextSimilaritySpec | ScoreModelSpec
    | LabelModelSpec | MultiSpec
)  # fmt: skip


VerifierSpec = Annotated[AnySpec, Field(discriminator="kind")]

Part.model_rebuild()
CompositeSpec.model_rebuild()
MultiSpec.model_rebuild()

ADAPTER: TypeAdapter[AnySpec] = TypeAdapter(VerifierSpec)
"""Validates any kind; `ADAPTER.json_schema()` documents them."""

KINDS = (
    *("math", "code", "sql", "schema", "choice", "text", "composite", "remote", "python"),
    *("string_check", "text_similarity", "score_model", "label_model", "multi"),
)


def parse_spec(data: Mapping[str, Any]) -> AnySpec:
    """A spec from plain data. Raises SpecError, one clause a field, for everything wrong."""
    kind = data.get("kind")
    if kind not in KINDS:
        raise SpecError(f"kind: {kind!r} is no verifier; the kinds are {', '.join(KINDS)}")
    try:
        return ADAPTER.validate_python(dict(data))
    except ValidationError as error:
        clauses = [
            ".".join(str(part) for part in item["loc"][1:]) + ": " + item["msg"]
            if len(item["loc"]) > 1
            else item["msg"].removeprefix("Value error, ")
            for item in error.errors(include_url=False)
        ]
        raise SpecError(f"{kind} verifier: " + "; ".join(clauses)) from None


def dump_spec(spec: AnySpec) -> dict[str, Any]:
    """The spec as plain JSON data, with no more fields than were given."""
    data = spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if isinstance(spec, CompositeSpec):
        for part, dumped in zip(spec.parts, data["parts"], strict=True):
            dumped["verifier"] = dump_spec(part.verifier)
        if spec.gate is not None:
            data["gate"] = dump_spec(spec.gate)
    if isinstance(spec, MultiSpec):
        data["graders"] = {name: dump_spec(grader) for name, grader in spec.graders.items()}
    return {"kind": spec.kind, **data}


_GRANTING = (
    CodeSpec, PythonSpec, RemoteSpec, CompositeSpec, SqlSpec, MultiSpec, ScoreModelSpec,
    LabelModelSpec,
)  # fmt: skip


def granted_s(spec: AnySpec) -> float:
    """Wall seconds that a spec's own limits grant it; 0 when it has none."""
    if isinstance(spec, _GRANTING):
        return spec.granted_s
    return 0.0


def located(spec: AnySpec, folder: str = ".") -> AnySpec:
    """The spec with every file named by its real absolute path, for a process that works
    elsewhere; a relative one is taken from `folder`."""
    if isinstance(spec, SqlSpec) and spec.engine != "postgres":
        path = os.path.realpath(os.path.join(folder, spec.database))
        return spec.model_copy(update={"database": path})
    if isinstance(spec, CompositeSpec):
        parts = tuple(
            part.model_copy(update={"verifier": located(part.verifier, folder)})
            for part in spec.parts
        )
        gate = None if spec.gate is None else {"gate": located(spec.gate, folder)}
        return spec.model_copy(update={"parts": parts, **(gate or {})})
    if isinstance(spec, MultiSpec):
        graders = {name: located(grader, folder) for name, grader in spec.graders.items()}
        return spec.model_copy(update={"graders": graders})
    return spec


def plain(spec: AnySpec) -> list[AnySpec]:
    """The verifiers that a spec comes down to: itself, or those inside."""
    if isinstance(spec, CompositeSpec):
        return [leaf for inner in spec.verifiers for leaf in plain(inner)]
    if isinstance(spec, MultiSpec):
        return [leaf for inner in spec.graders.values() for leaf in plain(inner)]
    return [spec]
