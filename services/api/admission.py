"""Whether a requested job can be queued: the spec, its task files and its model.

Everything that can be known without an actor is checked here, so that a bad job is refused
with the name of every bad field, as the request calls it, instead of failing later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from pydantic import ValidationError

from services.api.job_requests import CreateJob
from services.api.methods import OF_REQUEST, Wish, decided, wish_of
from services.api.places import Misplaced, Places
from services.config import JobSpec
from services.errors import Problem
from services.job_files import describe
from services.task_needs import folders, unreachable
from trainer.algorithm_spec import Opd
from trainer.context_checks import unseeable
from trainer.dataset import SHOWN_PROBLEMS, TaskFileError, TaskProblem, load_tasks
from trainer.documents import Library, LibraryError
from trainer.records import Task
from trainer.spec import PrivilegedSpec
from trainer.templates import PrivilegedError, check_privileged
from verifiers import model_endpoint
from verifiers.openai_graders import asks_a_model, type_of

_READ_SECONDS = 120.0
_LOCATED = (
    ("tasks", "train"), ("tasks", "holdout"), ("privileged", "documents"), ("model", "path"),
)  # fmt: skip
_NOTHING = PrivilegedSpec(kind="none")


@dataclass(frozen=True, slots=True)
class Admitted:
    """A job that may be queued.

    `asked` is what is kept of the request: its method, the names of files by where they lie
    (`files`), passes over the tasks (`epochs`), and in `notes` what was put into other words.
    """

    spec: JobSpec
    asked: Mapping[str, Any]


async def admitted(body: CreateJob, places: Places, tenant: str) -> Admitted:
    """The resolved spec of a job that may be queued. Raises InvalidRequest with every problem."""
    wish = wish_of(body.method)
    for path, value in body.completions().items():
        if value is not None:
            wish.complete(path, value, OF_REQUEST[path])
    _refuse(wish)
    await _locate(wish, places, tenant)
    spec = _validated(wish, wish.data)
    await _check_models(wish, spec, places)
    _check_grader(wish, spec)
    tasks = await _tasks(wish, "train", spec)
    if tasks and (more := decided(wish, tasks, spec)):
        spec = _validated(wish, {**wish.data, **more})
    await _check(wish, spec, tasks)
    _refuse(wish)
    kept = {"files": wish.files, "epochs": wish.epochs, "notes": wish.notes}
    return Admitted(spec, {**body.asked(), **kept})


async def _check_models(wish: Wish, spec: JobSpec, places: Places) -> None:
    """Models that may not be used, or that nobody can load, become problems."""
    named = {"model.path": spec.model.path}
    if isinstance(spec.algorithm, Opd):
        named["algorithm.teacher.path"] = spec.algorithm.teacher.path
    for field, name in named.items():
        if name in wish.files or _is_bad(wish, field):
            continue  # a trained model of the tenant's own, or named as a problem already
        if problem := await asyncio.to_thread(places.models.problem, name):
            wish.problems.append(Problem(wish.field(field), problem))


def _check_grader(wish: Wish, spec: JobSpec) -> None:
    """A grader that asks a model becomes a problem where there is none to ask."""
    grader = spec.tasks.grader
    if grader is not None and asks_a_model(grader) and (why := model_endpoint.missing()):
        told = f"type: a {type_of(grader)} grader {why}"
        wish.problems.append(Problem(wish.field("tasks.grader"), told))


async def _check(wish: Wish, spec: JobSpec, tasks: list[Task]) -> None:
    """Whatever is wrong with the tasks, or with what their teacher sees, becomes a problem."""
    shown, library = spec.privileged or _NOTHING, None
    if _is_bad(wish, "privileged.documents"):
        shown = _NOTHING
    try:
        check_privileged(shown)
        library = await _library(shown)
    except PrivilegedError as error:
        wish.problems.append(Problem(wish.field("privileged.template"), str(error)))
        shown = _NOTHING
    except LibraryError as error:
        wish.problems.append(Problem(wish.field("privileged.documents"), str(error)))
        shown = _NOTHING
    train, holdout = spec.tasks.train, spec.tasks.holdout
    if tasks:
        _tell(wish, "tasks.train", await asyncio.to_thread(_unready, spec, tasks, train))
        found = await asyncio.to_thread(unseeable, tasks, shown, library, train)
        _tell(wish, "tasks.train", found)
    if holdout is not None and (kept := await _tasks(wish, "holdout", spec)):
        _tell(wish, "tasks.holdout", await asyncio.to_thread(_unready, spec, kept, holdout))


def _unready(spec: JobSpec, tasks: list[Task], file: str) -> list[TaskProblem]:
    """What the tasks' verifiers lack."""
    return unreachable(tasks, folders(spec.tasks), file)


async def _locate(wish: Wish, places: Places, tenant: str) -> None:
    """Put paths for the names of files and of trained models."""
    for section, leaf in _LOCATED:
        held = wish.data.get(section)
        if not isinstance(held, dict):
            continue  # absent, or malformed: the spec's own validation names it
        fields = cast("dict[str, Any]", held)
        name = fields.get(leaf)
        if not isinstance(name, str):
            continue
        try:
            find = places.model if section == "model" else places.path
            path = str(await find(name, tenant))
        except Misplaced as error:
            wish.problems.append(Problem(wish.field(f"{section}.{leaf}"), str(error)))
        else:
            fields[leaf] = path
            if path != name:
                wish.files[path] = name


def _validated(wish: Wish, data: dict[str, Any]) -> JobSpec:
    """The spec. Raises InvalidRequest with every problem, those from before included."""
    if wish.chooses and "algorithm" not in data:
        data = {**data, "algorithm": {"kind": "grpo"}, "privileged": None}
    try:
        return JobSpec.model_validate(data)
    except ValidationError as error:
        told = [Problem(wish.field(p["field"]), wish.words(p["message"])) for p in describe(error)]
        raise wish.refusal(told) from error


async def _tasks(wish: Wish, which: Literal["train", "holdout"], spec: JobSpec) -> list[Task]:
    """The tasks of one of the job's files; none, and problems, when it cannot be used."""
    name = spec.tasks.train if which == "train" else spec.tasks.holdout
    field = f"tasks.{which}"
    if name is None or _is_bad(wish, field) or _is_bad(wish, "tasks.grader"):
        return []
    try:
        async with asyncio.timeout(_READ_SECONDS):
            return await asyncio.to_thread(load_tasks, name, spec.tasks.grader)
    except TaskFileError as error:
        _tell(wish, field, error.problems)
    except TimeoutError:
        told = f"{name} could not be read within {_READ_SECONDS:.0f} s"
        wish.problems.append(Problem(wish.field(field), told))
    return []


def _is_bad(wish: Wish, field: str) -> bool:
    """Whether something is known to be wrong with a field: it is not looked at then."""
    return any(problem.field == wish.field(field) for problem in wish.problems)


def _tell(wish: Wish, field: str, found: list[TaskProblem] | tuple[TaskProblem, ...]) -> None:
    """Make problems of the request of what is wrong with tasks, the first of them."""
    where = wish.field(field)
    wish.problems += [Problem(where, str(problem)) for problem in found[:SHOWN_PROBLEMS]]
    if rest := len(found) - len(found[:SHOWN_PROBLEMS]):
        wish.problems.append(Problem(where, f"{found[0].file}: and {rest} more"))


async def _library(shown: PrivilegedSpec) -> Library | None:
    """The library of documents. Raises LibraryError, also where it cannot be read in time."""
    try:
        async with asyncio.timeout(_READ_SECONDS):
            return await asyncio.to_thread(Library.of, shown)
    except TimeoutError as error:
        raise LibraryError(
            f"{shown.documents} could not be read within {_READ_SECONDS:.0f} s"
        ) from error


def _refuse(wish: Wish) -> None:
    if wish.problems:
        raise wish.refusal()
