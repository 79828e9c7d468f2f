"""What a task asks of the judges that run code: `code` and `python`.

Part of the union in `spec`, where everything else is said about specs.
"""

from __future__ import annotations

import ast
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from verifiers import strict_json
from verifiers.extract import Extract, FencedBlock, Text

OVERHEAD_S = 30.0
"""Wall seconds for compiling, and for forks to start and end."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Call(_Part):
    """One call of the entry point and the value it must return."""

    args: tuple[Any, ...] = Field((), description="Positional arguments, JSON values.")
    kwargs: dict[str, Any] = Field(
        default_factory=dict[str, Any], description="Keyword arguments, JSON values."
    )
    expect: Any = Field(description="The result: numbers by value, a tuple counts as a list.")


class Stdio(_Part):
    """What a program reads and what it must print, but for blanks at the ends of lines."""

    stdin: str = Field("", max_length=2**24)
    stdout: str = Field(max_length=2**24)


class _Bounds(_Part):
    timeout_s: float = Field(5.0, gt=0, le=60, description="Wall seconds of one run.")
    memory_mb: int = Field(512, ge=64, le=16_384, description="Address space of each process.")


class CodeSpec(_Bounds):
    """A program that passes tests: exactly one of `tests`, `calls` and `stdio`."""

    kind: Literal["code"] = "code"
    language: Literal["python", "c", "cpp"] = Field(
        "python", description="C and C++ are judged by `stdio`."
    )
    tests: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="Python sources that raise when the code is wrong, run in the judge's "
        "process; a `check(candidate)` that is defined and not called is called.",
    )
    calls: tuple[Call, ...] | None = Field(
        None, min_length=1, max_length=1000, description="Calls of `entry_point`."
    )
    stdio: tuple[Stdio, ...] | None = Field(
        None, min_length=1, max_length=1000, description="Runs of the code as a whole program."
    )
    setup: str = Field(
        "",
        description="Python run before the tests, in the judge's process. The candidate "
        "gets its imports and classes, nothing else.",
    )
    entry_point: str = Field(
        "", pattern=r"^([A-Za-z_]\w*)?$", description="The function under test."
    )
    prompt: str = Field(
        "", description="Put before code that does not define the entry point itself (HumanEval)."
    )
    partial: bool = Field(False, description="Score the share of tests passed, not all or nothing.")
    max_output: int = Field(2**22, gt=0, le=2**26, description="Bytes a program may print.")
    extract: Extract = Field(FencedBlock(), description="Where the completion's code is found.")

    @property
    def granted_s(self) -> float:
        """Wall seconds that a verdict may take, all told."""
        return self.timeout_s * len(self.stdio or (None,)) + OVERHEAD_S

    @property
    def count(self) -> int:
        """Number of tests."""
        return len(self.tests or self.calls or self.stdio or ())

    def shown(self, index: int) -> str:
        """One test as a person reads it."""
        if self.tests is not None:
            return self.tests[index]
        if self.calls is not None:
            return strict_json.dumps(self.calls[index].model_dump(mode="json"))
        assert self.stdio is not None, "checked when the spec was made"
        return self.stdio[index].stdin

    @model_validator(mode="after")
    def _testable(self) -> Self:
        given = [name for name in ("tests", "calls", "stdio") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"exactly one of tests, calls and stdio is needed, not {', '.join(given) or 'none'}"
            )
        if self.language != "python" and (self.stdio is None or self.setup or self.prompt):
            raise ValueError(f"language: {self.language} is judged by stdio alone")
        if self.calls is not None and not self.entry_point:
            raise ValueError("entry_point: the function that `calls` calls is not named")
        for name, sources in (("tests", self.tests or ()), ("setup", (self.setup,))):
            for source in sources:
                _parse(name, source)
        return self


class PythonSpec(_Bounds):
    """A grading function of the user's, run inside the sandbox.

    `source` defines `grade(sample, item)`; `sample` is `{"output_text": ...}`, the text that
    `extract` found, with `output_json` when that is JSON; `item` is the data below. It returns
    a number from 0 to 1.
    """

    kind: Literal["python"] = "python"
    source: str = Field(max_length=256 * 1024, description="Python that defines `grade`.")
    item: dict[str, Any] = Field(
        default_factory=dict[str, Any], description="What the function needs to know of the task."
    )
    pass_threshold: float = Field(
        1.0, gt=0, le=1, description="Score from which the completion counts as correct."
    )
    extract: Extract = Field(Text(), description="Which text is graded.")

    @property
    def granted_s(self) -> float:
        """Wall seconds that a verdict may take, all told."""
        return self.timeout_s + OVERHEAD_S

    @model_validator(mode="after")
    def _callable(self) -> Self:
        body = _parse("source", self.source).body
        if not any(isinstance(part, ast.FunctionDef) and part.name == "grade" for part in body):
            raise ValueError("source: defines no function `grade(sample, item)`")
        return self


def _parse(name: str, source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{name}: no Python: {error}") from None
