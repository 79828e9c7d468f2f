"""Whether the teacher of every task would see what it should, before anything runs.

In: tasks, the privileged spec, the library of documents. Out: what is wrong, task by task.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trainer.dataset import TaskProblem
from trainer.documents import Library
from trainer.privileged import task_fields
from trainer.records import Task
from trainer.spec import GROUP_KINDS, PrivilegedKind, PrivilegedSpec
from trainer.templates import PrivilegedError, rendered


def unseeable(
    tasks: Sequence[Task], spec: PrivilegedSpec, library: Library | None, file: str
) -> list[TaskProblem]:
    """Why the teacher of some tasks would see nothing, or not what it should."""
    if library is not None:
        return unknown_documents(tasks, library, file) or unfilled(tasks, spec, file)
    named = [task.id for task in tasks if task.privileged.document_ids]
    if spec.kind == "documents" and named:
        message = f"{len(named)} task(s) name documents, but privileged.documents is not set"
        return [TaskProblem(file, None, "privileged.document_ids", f"{message}; {named[0]!r} does")]
    return missing_privileged(tasks, spec.kind, file) or unfilled(tasks, spec, file)


def missing_privileged(
    tasks: Iterable[Task], kind: PrivilegedKind, file: str = "tasks"
) -> list[TaskProblem]:
    """The tasks that lack the field a teacher of `kind` is shown, by id.

    Kinds that are made of the group's own rollouts, and `none`, need nothing.
    """
    if kind == "none" or kind in GROUP_KINDS:
        return []
    return [
        TaskProblem(
            file,
            None,
            f"privileged.{kind}",
            f"task {task.id!r} has none, and privileged.kind {kind} shows it to the teacher",
        )
        for task in tasks
        if not getattr(task.privileged, kind)
    ]


def unfilled(tasks: Iterable[Task], spec: PrivilegedSpec, file: str = "tasks") -> list[TaskProblem]:
    """The tasks whose privileged turn cannot be rendered, each with the reason."""
    problems: list[TaskProblem] = []
    for task in tasks:
        fields = task_fields(task)
        if spec.kind in GROUP_KINDS:
            fields |= {"sibling": "", "feedback": ""}
        try:
            rendered(spec, fields, f"task {task.id!r}")
        except PrivilegedError as error:
            problems.append(TaskProblem(file, None, "privileged", str(error)))
    return problems


def unknown_documents(tasks: Iterable[Task], library: Library, file: str) -> list[TaskProblem]:
    """Document ids of tasks that the library does not have, each with its task."""
    return [
        TaskProblem(
            file,
            None,
            "privileged.document_ids",
            f"task {task.id!r} names {name!r}, which privileged.documents does not hold",
        )
        for task in tasks
        for name in task.privileged.document_ids
        if name not in library.documents
    ]
