"""Whether a requested job can be queued: the spec, its task files and its model.

Everything that can be known without an actor is checked here, so that a bad job is refused
with the name of every bad field instead of failing later.
"""

from __future__ import annotations

import asyncio
import copy
import re
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import ValidationError

from services.api.models import CreateJob
from services.config import JobSpec, TasksSpec, describe
from services.errors import InvalidRequest, Problem
from services.task_databases import folders, unreachable
from trainer.algorithm_spec import Opd
from trainer.context_checks import unseeable
from trainer.dataset import SHOWN_PROBLEMS, TaskFileError, load_tasks
from trainer.documents import Library, LibraryError
from trainer.model_files import DEMO
from trainer.spec import PrivilegedSpec
from trainer.templates import PrivilegedError, check_privileged

_SPEC = "method.strop"
_READ_SECONDS = 120.0
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_COMPLETES = {
    "model": ("model", "path"),
    "training_file": ("tasks", "train"),
    "validation_file": ("tasks", "holdout"),
    "seed": ("seed",),
    "suffix": ("name",),
}


async def admitted(body: CreateJob) -> JobSpec:
    """The resolved spec of a job that may be queued. Raises InvalidRequest with every problem."""
    spec = _resolved(body)
    problems = model_problems(f"{_SPEC}.model.path", spec.model.path)
    if isinstance(spec.algorithm, Opd):
        field = f"{_SPEC}.algorithm.teacher.path"
        problems += model_problems(field, spec.algorithm.teacher.path)
    shown = spec.privileged or PrivilegedSpec(kind="none")
    library = None
    try:
        check_privileged(shown)
        library = await _library(shown)
    except PrivilegedError as error:
        problems.append(Problem(f"{_SPEC}.privileged.template", str(error)))
        shown = PrivilegedSpec(kind="none")
    except LibraryError as error:
        problems.append(Problem(f"{_SPEC}.privileged.documents", str(error)))
        shown = PrivilegedSpec(kind="none")
    problems += await _task_problems("train", spec.tasks, shown, library)
    problems += await _task_problems("holdout", spec.tasks, PrivilegedSpec(kind="none"))
    if problems:
        raise InvalidRequest(problems)
    return spec


def _resolved(body: CreateJob) -> JobSpec:
    data = copy.deepcopy(body.method.strop)
    problems: list[Problem] = []
    for field, path in _COMPLETES.items():
        value = getattr(body, field)
        if value is not None and not _complete(data, path, value):
            where = ".".join((_SPEC, *path))
            problems.append(Problem(field, f"{value!r} contradicts {where}; give one of the two"))
    if problems:
        raise InvalidRequest(problems)
    try:
        return JobSpec.model_validate(data)
    except ValidationError as error:
        raise InvalidRequest(
            [
                Problem(_SPEC if p["field"] == "job" else f"{_SPEC}.{p['field']}", p["message"])
                for p in describe(error)
            ]
        ) from error


def _complete(data: dict[str, Any], path: tuple[str, ...], value: object) -> bool:
    """Set the value where the spec is silent; False when the spec says something else."""
    *parents, leaf = path
    for parent in parents:
        child = data.setdefault(parent, {})
        if not isinstance(child, dict):
            return True  # malformed: the spec's own validation names it
        data = cast("dict[str, Any]", child)
    if data.get(leaf) is None:
        data[leaf] = value
    return data[leaf] == value


async def _library(shown: PrivilegedSpec) -> Library | None:
    """The library of documents. Raises LibraryError, also where it cannot be read in time."""
    if shown.documents is not None and not Path(shown.documents).is_absolute():
        raise LibraryError(f"{shown.documents!r} must be an absolute path on the service's machine")
    try:
        async with asyncio.timeout(_READ_SECONDS):
            return await asyncio.to_thread(Library.of, shown)
    except TimeoutError as error:
        raise LibraryError(
            f"{shown.documents} could not be read within {_READ_SECONDS:.0f} s"
        ) from error


async def _task_problems(
    which: Literal["train", "holdout"],
    files: TasksSpec,
    shown: PrivilegedSpec,
    library: Library | None = None,
) -> list[Problem]:
    """What is wrong with a task file whose teacher is shown this much."""
    field = f"{_SPEC}.tasks.{which}"
    name = files.train if which == "train" else files.holdout
    if name is None:
        return []
    path = Path(name)
    if not path.is_absolute():
        return [Problem(field, f"{name!r} must be an absolute path on the service's machine")]
    try:
        async with asyncio.timeout(_READ_SECONDS):
            tasks = await asyncio.to_thread(load_tasks, path)
    except TaskFileError as error:
        found = list(error.problems)
    except TimeoutError:
        return [Problem(field, f"{name} could not be read within {_READ_SECONDS:.0f} s")]
    else:
        found = unreachable(tasks, folders(files), name) + unseeable(tasks, shown, library, name)
    problems = [Problem(field, str(problem)) for problem in found[:SHOWN_PROBLEMS]]
    if rest := len(found) - len(problems):
        problems.append(Problem(field, f"{name}: and {rest} more"))
    return problems


def model_problems(field: str, name: str) -> list[Problem]:
    """What is wrong with the name of a model to train or to serve."""
    if name == DEMO:
        return []
    folder = Path(name)
    if folder.is_absolute():
        if (folder / "config.json").is_file():
            return []
        return [Problem(field, f"{name} is not a folder with a model's config.json")]
    if _HUB_ID.fullmatch(name):
        return []
    return [
        Problem(
            field,
            f"unknown model {name!r}: give the absolute path of a folder with config.json, a "
            f"Hugging Face id such as org/name, or {DEMO}",
        )
    ]
