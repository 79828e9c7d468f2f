"""What must be right before an actor starts: the job's tasks, its model, and every prompt.

In: a job spec. Out: tasks with the documents their teacher reads, the policy's prompts as
token ids, and notes on what was dropped, shortened or left out, by count. Refuses a job that
could not run, by name of what to change. Knows the tokeniser, but no weights and no actor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.config import JobSpec
from trainer.algorithm_spec import Opd
from trainer.context_checks import missing_privileged, unseeable
from trainer.dataset import TaskFileError, load_tasks, split_by_length
from trainer.demo_model import resolve_model
from trainer.documents import Library, furnished
from trainer.privileged import TeacherView, student_prompt
from trainer.records import Task
from trainer.spec import GROUP_KINDS, PrivilegedSpec
from trainer.templates import check_privileged
from trainer.vocabulary import vocabulary_problem


class JobRefused(ValueError):
    """The job cannot run as it is; the message names what to change."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A checked job: its model on disk, its tasks, and every policy prompt by task id.

    `teacher_path` is the model of a teacher of its own.
    """

    model_path: Path
    tasks: Sequence[Task]
    holdout: Sequence[Task]
    prompts: dict[str, NDArray[np.int32]]
    notes: Sequence[str]
    teacher_path: Path | None = None


def prepare(job: JobSpec, resolve: Callable[[str], Path] = resolve_model) -> Prepared:
    """Check everything that can be checked before an actor starts.

    `resolve` finds a model's folder; of its files, those of the tokenizer are read. Raises JobRefused, TaskFileError, PrivilegedError, LibraryError, PromptError or ModelError.
    """
    from transformers import AutoTokenizer

    tasks, holdout, library = _load(job)
    model_path = resolve(job.model.path)
    tokenizer: Any = AutoTokenizer.from_pretrained(model_path, trust_remote_code=False)
    prompts = {task.id: student_prompt(task, tokenizer) for task in (*tasks, *holdout)}
    notes: list[str] = []
    train = _fitting(job, "tasks.train", tasks, prompts, notes)
    if job.privileged is not None:
        train = _seen(job, job.privileged, library, train, tokenizer, notes)
    if not train:
        raise JobRefused("tasks.train: no prompt is short enough to train on")
    kept = _fitting(job, "tasks.holdout", holdout, prompts, notes)
    return Prepared(model_path, train, kept, prompts, notes, _teacher(job, model_path, resolve))


def _teacher(job: JobSpec, model_path: Path, resolve: Callable[[str], Path]) -> Path | None:
    """The folder of a teacher of its own, which has the policy's vocabulary."""
    if not isinstance(job.algorithm, Opd):
        return None
    path = resolve(job.algorithm.teacher.path)
    if problem := vocabulary_problem(model_path, path):
        raise JobRefused(f"algorithm.teacher.path {job.algorithm.teacher.path}: {problem}")
    return path


def room(job: JobSpec) -> int:
    """Tokens that a prompt may have, the policy's or the teacher's."""
    return job.model.max_length - job.sampling.max_tokens


def _load(job: JobSpec) -> tuple[list[Task], list[Task], Library | None]:
    """The tasks of both files, and the library of the teacher's documents."""
    grader = job.tasks.grader
    tasks = load_tasks(job.tasks.train, grader)
    holdout = load_tasks(job.tasks.holdout, grader) if job.tasks.holdout else []
    if repeated := {task.id for task in tasks} & {task.id for task in holdout}:
        raise JobRefused(
            f"{len(repeated)} task id(s) stand in both tasks.train and tasks.holdout, "
            f"for example {min(repeated)!r}"
        )
    if pictured := [task.id for task in (*tasks, *holdout) if has_image(task)]:
        raise JobRefused(
            f"{len(pictured)} task(s) hold images, for example {pictured[0]!r}; the rollout tier "
            "samples from text alone"
        )
    library = None
    if job.privileged is not None:
        check_privileged(job.privileged)
        library = Library.of(job.privileged)
        if problems := unseeable(tasks, job.privileged, library, job.tasks.train):
            raise TaskFileError(problems)
    return tasks, holdout, library


def _fitting(
    job: JobSpec,
    field: str,
    tasks: Sequence[Task],
    prompts: Mapping[str, NDArray[np.int32]],
    notes: list[str],
) -> list[Task]:
    """The tasks whose own prompt leaves room for a completion."""
    limit = room(job)
    fitting, too_long = split_by_length(tasks, lambda task: prompts[task.id], limit)
    if too_long:
        told = (
            f"{field}: {len(too_long)} of {len(tasks)} prompts are longer than the {limit} tokens "
            f"that model.max_length {job.model.max_length} leaves beside sampling.max_tokens "
            f"{job.sampling.max_tokens}, for example {too_long[0].id!r}"
        )
        if job.tasks.overlong != "drop":
            raise JobRefused(f"{told}; shorten them, or set tasks.overlong: drop")
        notes.append(f"{told}; dropped")
    return fitting


def _seen(
    job: JobSpec,
    spec: PrivilegedSpec,
    library: Library | None,
    tasks: list[Task],
    tokenizer: Any,
    notes: list[str],
) -> list[Task]:
    """The tasks with what their teacher reads, as far as it fits; the rest is counted."""
    if spec.kind in GROUP_KINDS:
        return tasks  # the context is made of rollouts; the teacher counts what does not fit
    if library is not None:
        tasks = _furnished(job, TeacherView(spec, tokenizer, room=room(job)), library, tasks, notes)
    view = TeacherView(spec, tokenizer, room=room(job), shorten=job.tasks.overlong == "shorten")
    made = {task.id: view.of_task(task) for task in tasks}
    if shortened := [task.id for task in tasks if made[task.id].left_out]:
        left_out = sum(prompt.left_out for prompt in made.values())
        notes.append(
            f"privileged: the context of {len(shortened)} of {len(tasks)} tasks was shortened, by "
            f"{left_out} characters in all, for example of {shortened[0]!r}"
        )
    if too_long := [task.id for task in tasks if not made[task.id].fits]:
        budget = "" if spec.max_tokens is None else f" and privileged.max_tokens {spec.max_tokens}"
        told = (
            f"privileged: the context of {len(too_long)} of {len(tasks)} tasks does not fit the "
            f"{room(job)} tokens that model.max_length leaves{budget}, for example of {too_long[0]!r}"
        )
        if job.tasks.overlong != "drop":
            raise JobRefused(f"{told}; give it room, or set tasks.overlong to shorten or drop")
        notes.append(f"{told}; dropped")
    return [task for task in tasks if made[task.id].fits]


def _furnished(
    job: JobSpec, view: TeacherView, library: Library, tasks: list[Task], notes: list[str]
) -> list[Task]:
    """The tasks with their documents out of the library."""
    if library.left_out:
        notes.append(
            f"privileged.documents: {len(library.left_out)} file(s) are not UTF-8 text and were "
            f"left out, for example {library.left_out[0]!r}"
        )
    found = [furnished(task, library, lambda one: view.of_task(one).fits) for task in tasks]
    if problems := missing_privileged(found, "documents", job.tasks.train):
        reason = "no document of privileged.documents shares a word with it"
        raise TaskFileError([replace(one, message=f"{one.message}: {reason}") for one in problems])
    return found


def has_image(task: Task) -> bool:
    """Whether a message of the task holds anything but text."""
    contents: list[Any] = [message["content"] for message in task.messages]
    return any(
        part.get("type") != "text"
        for content in contents
        if not isinstance(content, str)
        for part in content
    )
