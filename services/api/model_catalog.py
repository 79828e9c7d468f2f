"""Which models there are for a tenant: base models, trained ones, and their checkpoints.

A name is looked up, never taken for a path: what a tenant may train it may also ask, and of
what was trained only its own. What is deleted is gone from the disk, and with that from here.
"""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from services.api.model_policy import ModelPolicy
from services.errors import Conflict, NotFound
from services.jobs import Checkpoint, Job
from services.model_names import model_name, trained
from services.settings import Settings
from services.store import Store
from trainer.model_files import DEMO

_PAGE = 100
_OWNER = "strop"


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be asked. `path` is what is loaded; `job_id` and `step` say whence a
    trained one is."""

    id: str
    path: str
    created_at: float
    owner: str
    job_id: str | None = None
    step: int | None = None
    base: str | None = None


class ModelCatalog:
    """The models that `store` knows; trained ones lie below `jobs_folder`."""

    def __init__(self, store: Store, jobs_folder: Path, policy: ModelPolicy) -> None:
        """Nothing is read before somebody asks."""
        self._store = store
        self._jobs_folder = jobs_folder
        self._policy = policy

    async def find(self, name: str, tenant: str) -> Model:
        """The model of this name. Raises NotFound, also for another tenant's, and Conflict for
        one of a recorded run."""
        source = trained(name)
        if source is None:
            if await asyncio.to_thread(self._policy.problem, name):
                raise _unknown(name)
            return _base(name)
        try:
            job = await self._store.get_job(source.job_id, tenant)
            if (job.result or {}).get("recorded"):
                raise Conflict(
                    f"{name} belongs to a recorded run, and a recording holds no weights: submit "
                    "the job to a service that trains, and ask what comes out of it",
                    param="model",
                )
            found = await self._trained(job, source.step)
        except NotFound:
            found = None
        if found is None or found.id != name:
            raise _unknown(name)
        return found

    async def _trained(self, job: Job, step: int | None) -> Model | None:
        """A model of this job, unless it is not there (yet, or any more)."""
        if step is None:
            return _final(job)
        checkpoint_id = f"ftckpt-{job.id.removeprefix('ftjob-')}-{step}"
        return _saved(job, await self._store.checkpoint(job.id, checkpoint_id, job.tenant))

    async def page(
        self, tenant: str, after: str | None = None, limit: int = _PAGE
    ) -> tuple[list[Model], bool]:
        """A page of models behind the model `after`, and whether more follow: base models that
        the newest jobs train, then what jobs trained, the newest first, of `limit` jobs or of as
        many as it takes to find one. Raises NotFound when there is no model `after`."""
        models: list[Model] = []
        last = None if after is None else await self._job_of(after, tenant)
        first = after is None
        more, found = True, 0
        while more and not found:
            jobs, more = await self._store.list_jobs(tenant=tenant, after=last, limit=limit)
            if first:
                first = False
                bases = dict.fromkeys([DEMO, *(job.spec["model"]["path"] for job in jobs)])
                for base in bases:
                    if await asyncio.to_thread(self._policy.problem, base) is None:
                        models.append(_base(base))
            for job in jobs:
                models += (of_job := await self._of_job(job))
                found += len(of_job)
            last = jobs[-1].id if jobs else None
        return models, more

    async def _job_of(self, name: str, tenant: str) -> str | None:
        """The job that trained the model of this name; None for a base model."""
        try:
            return (await self.find(name, tenant)).job_id
        except NotFound as error:
            raise NotFound(error.message, param="after") from None

    async def _of_job(self, job: Job) -> list[Model]:
        """What a job trained, its checkpoints newest first."""
        kept, _ = await self._store.checkpoints(job.id, job.tenant, limit=_PAGE)
        found = [_final(job), *(_saved(job, point) for point in kept)]
        return [model for model in found if model is not None]

    async def delete(self, name: str, tenant: str) -> Model:
        """Remove a trained model from the disk, optimizer state and all.

        Raises NotFound, and Conflict when it is a base model, when its job has not ended, or
        when another job starts from it.
        """
        model = await self.find(name, tenant)
        if model.job_id is None:
            raise Conflict(f"{name} is a base model; only what was trained here can be deleted")
        folder = Path(model.path).parent  # the checkpoint: the model and what its job resumed from
        job = await self._store.get_job(model.job_id, tenant)
        if not job.finished:
            raise Conflict(f"{name} belongs to {job.id}, which is {job.status}: cancel it first")
        if not folder.resolve().is_relative_to((self._jobs_folder / job.id).resolve()):
            raise Conflict(f"{name} lies outside of its job's folder and is not ours to delete")
        if (user := await self._user_of(folder, tenant)) is not None:
            raise Conflict(f"job {user} starts from {name}, and has not ended")
        await asyncio.to_thread(_remove, folder)
        return model

    async def _user_of(self, folder: Path, tenant: str) -> str | None:
        """A job that has not ended and reads what lies in the folder."""
        after, more = None, True
        while more:
            jobs, more = await self._store.list_jobs(tenant=tenant, after=after, limit=_PAGE)
            for job in jobs:
                read = (job.source, job.spec["model"]["path"])
                if not job.finished and any(path and _within(path, folder) for path in read):
                    return job.id
            after = jobs[-1].id if jobs else None
        return None


def _base(name: str) -> Model:
    return Model(name, name, 0.0, _OWNER)


def _final(job: Job) -> Model | None:
    path = (job.result or {}).get("model")
    return _model(job, None, str(path), job.finished_at or 0.0) if path else None


def _saved(job: Job, point: Checkpoint) -> Model | None:
    return _model(job, point.step, point.path, point.created_at)


def _model(job: Job, step: int | None, path: str, created_at: float) -> Model | None:
    if not Path(path).is_dir():
        return None
    base = job.spec["model"]["path"]
    name = model_name(base, job.spec.get("name") or "", job.id, step)
    return Model(name, path, created_at, job.tenant, job.id, step, base)


def _within(path: str, folder: Path) -> bool:
    return Path(path).is_absolute() and Path(path).resolve().is_relative_to(folder.resolve())


def _remove(folder: Path) -> None:
    """All at once as far as readers see: renamed, then removed."""
    grave = folder.with_name(f".deleted-{folder.name}")
    folder.rename(grave)
    shutil.rmtree(grave)


def _unknown(name: str) -> NotFound:
    return NotFound(
        f"there is no model {name!r} here; `GET /v1/models` lists those you can use",
        param="model",
    )


def _catalog(request: Request) -> ModelCatalog:
    settings: Settings = request.app.state.settings
    return ModelCatalog(request.app.state.store, settings.jobs_folder, ModelPolicy.of(settings))


CatalogParam = Annotated[ModelCatalog, Depends(_catalog)]
