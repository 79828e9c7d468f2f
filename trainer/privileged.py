"""The two views of a task: the policy's prompt, and the teacher's with privileged context.

The teacher reads one extra turn before the assistant begins. It is joined to the last
user message by a blank line, not sent as a second user message: the chat templates of
Llama 2, Mistral and Gemma refuse two user turns in a row ("roles must alternate"), and
one that allows them gains nothing. After a last turn of another role it is a user turn
of its own. Kind `none` leaves the task as it is, so both views have the same tokens.

A completion is sampled once and scored as the very same token ids under both prompts;
nothing here touches a completion. The tokeniser is the only model part it knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, Protocol

import numpy as np
from jinja2 import StrictUndefined, Template, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment
from numpy.typing import NDArray

from trainer.dataset import TaskProblem
from trainer.records import Task
from trainer.spec import PrivilegedSpec

FIELDS = ("answer", "trace", "documents")
_JINJA_GLOBALS = {"range", "dict", "namespace", "joiner", "cycler"}

DEFAULT_TEMPLATES: Mapping[Literal["answer", "trace"], str] = {
    "answer": "The correct answer is: {{ answer }}",
    "trace": "A correct response is:\n{{ trace }}",
}

_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False
)


class PrivilegedError(ValueError):
    """A privileged template that cannot be used, or cannot be filled from a task."""


class PromptError(ValueError):
    """A task's messages that the tokeniser's chat template cannot lay out."""


class ChatTokenizer(Protocol):
    """The part of a Hugging Face tokeniser used here."""

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any: ...


def check_privileged(spec: PrivilegedSpec) -> None:
    """Raise PrivilegedError unless the spec's template parses and names only known fields."""
    if spec.kind == "none":
        if spec.template is not None:
            raise PrivilegedError(
                "privileged.template is set, but privileged.kind none shows the teacher nothing"
            )
        return
    source = spec.template if spec.template is not None else DEFAULT_TEMPLATES[spec.kind]
    try:
        names = meta.find_undeclared_variables(_ENVIRONMENT.parse(source))
        _compiled(source)
    except TemplateError as error:
        raise PrivilegedError(f"privileged.template is not a Jinja template: {error}") from error
    unknown = sorted(names - set(FIELDS) - _JINJA_GLOBALS)
    if unknown:
        raise PrivilegedError(
            f"privileged.template names {', '.join(unknown)}; it may use {', '.join(FIELDS)}"
        )


@cache
def _compiled(source: str) -> Template:
    return _ENVIRONMENT.from_string(source)


def privileged_turn(task: Task, spec: PrivilegedSpec) -> str | None:
    """The text that only the teacher reads; None for kind `none`.

    In a template `answer` and `trace` are undefined where the task has none, `documents`
    is always a list. Raises PrivilegedError naming the task when the template cannot be filled.
    """
    if spec.kind == "none":
        return None
    source = spec.template if spec.template is not None else DEFAULT_TEMPLATES[spec.kind]
    known: dict[str, Any] = {"documents": list(task.privileged.documents)}
    if task.privileged.answer is not None:
        known["answer"] = task.privileged.answer
    if task.privileged.trace is not None:
        known["trace"] = task.privileged.trace
    try:
        return _compiled(source).render(known)
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise PrivilegedError(
            f"task {task.id!r}: the privileged template cannot be filled: {error}"
        ) from error


def unfilled(tasks: Iterable[Task], spec: PrivilegedSpec, file: str = "tasks") -> list[TaskProblem]:
    """The tasks whose privileged turn cannot be rendered, each with the reason."""
    problems: list[TaskProblem] = []
    for task in tasks:
        try:
            privileged_turn(task, spec)
        except PrivilegedError as error:
            problems.append(TaskProblem(file, None, "privileged", str(error)))
    return problems


def teacher_messages(task: Task, spec: PrivilegedSpec) -> tuple[Mapping[str, Any], ...]:
    """The task's messages as the teacher reads them."""
    turn = privileged_turn(task, spec)
    if turn is None:
        return task.messages
    *before, last = task.messages
    if last["role"] != "user":
        return (*task.messages, {"role": "user", "content": turn})
    return (*before, {**last, "content": f"{last['content']}\n\n{turn}"})


def student_prompt(task: Task, tokenizer: ChatTokenizer) -> NDArray[np.int32]:
    """int32[P]: the policy's prompt, up to where the assistant begins to write."""
    return _prompt(task.id, task.messages, tokenizer)


def teacher_prompt(task: Task, tokenizer: ChatTokenizer, spec: PrivilegedSpec) -> NDArray[np.int32]:
    """int32[P']: the teacher's prompt; equal to the policy's for kind `none`."""
    return _prompt(task.id, teacher_messages(task, spec), tokenizer)


def _prompt(
    task_id: str, messages: Sequence[Mapping[str, Any]], tokenizer: ChatTokenizer
) -> NDArray[np.int32]:
    try:
        ids: list[int] = tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
        )
    except (TemplateError, ValueError) as error:
        raise PromptError(
            f"task {task_id!r}: the chat template refuses its messages: {error}"
        ) from error
    return np.asarray(ids, dtype=np.int32)
