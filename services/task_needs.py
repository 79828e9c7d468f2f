"""What a job's tasks name beyond their file: databases, where they may lie, and models to ask.

In: the job's task files and their tasks. Out: folders, and problems task by task, before
anything runs. Opens no database, asks no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from services.job_sections import TasksSpec
from trainer.dataset import TaskProblem
from trainer.records import Task
from verifiers import model_endpoint
from verifiers.databases import Databases, names_a_file
from verifiers.model_specs import ModelSpec
from verifiers.spec import SpecError, parse_spec, plain
from verifiers.sql_spec import SqlSpec


def folders(files: TasksSpec) -> list[str]:
    """Where the job's databases may lie: beside its task files."""
    named = (files.train, files.holdout)
    return list(dict.fromkeys(str(Path(file).parent) for file in named if file is not None))


def unreachable(tasks: Iterable[Task], allowed: Sequence[str], file: str) -> list[TaskProblem]:
    """One problem for each database that is not there, or lies outside the folders `allowed`,
    and one where a model is to be asked and none can be."""
    databases = Databases(allowed)
    problems: dict[str, TaskProblem] = {}
    for task in tasks:
        try:
            spec, _ = databases.located(parse_spec(task.verifier))
        except SpecError as error:
            message = f"task {task.id!r}: {error}"
            problems.setdefault(str(error), TaskProblem(file, None, "verifier", message))
            continue
        for leaf in plain(spec):
            if isinstance(leaf, ModelSpec) and (why := model_endpoint.missing()):
                message = f"task {task.id!r}: a {leaf.kind} verifier {why}"
                problems.setdefault(why, TaskProblem(file, None, "verifier.kind", message))
            if (
                isinstance(leaf, SqlSpec)
                and names_a_file(leaf)
                and not Path(leaf.database).is_file()
            ):
                message = f"task {task.id!r}: there is no file {leaf.database}"
                problems.setdefault(
                    leaf.database, TaskProblem(file, None, "verifier.database", message)
                )
    return list(problems.values())
