"""The routes of models: list, retrieve, and delete a trained one."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, Field

from services.api.audited import AuditParam
from services.api.auth import allowed
from services.api.inference import ServersParam
from services.api.model_catalog import CatalogParam, Model
from services.api.model_servers import Target
from services.api.pages import Page, paged
from services.callers import Caller

router = APIRouter(prefix="/v1/models", tags=["Models"])

ModelName = Annotated[str, Path(description="Name of the model.")]


class ModelObject(BaseModel):
    """A model that can be asked."""

    id: str = Field(
        description="Its name, for `model` of a completion.", examples=["ft:base:sums:4f2a"]
    )
    object: Literal["model"] = Field(default="model", description="Kind of object.")
    created: int = Field(description="When it was made, seconds since the epoch; 0 for a base.")
    owned_by: str = Field(description="The tenant that trained it, or `strop`.")
    base: str | None = Field(description="What it was trained from.")
    job: str | None = Field(description="The job that trained it.")
    step: int | None = Field(description="The step, when it is a checkpoint.")

    @classmethod
    def of(cls, model: Model) -> ModelObject:
        """The model on the wire."""
        return cls(
            id=model.id,
            created=int(model.created_at),
            owned_by=model.owner,
            base=model.base,
            job=model.job_id,
            step=model.step,
        )


class ModelPage(Page):
    """A page of models."""

    data: list[ModelObject] = Field(description="The models.")


class DeletedModel(BaseModel):
    """A model that is gone."""

    id: str = Field(description="Its name.")
    object: Literal["model"] = Field(default="model", description="Kind of object.")
    deleted: Literal[True] = Field(default=True, description="Always true.")


@router.get("", summary="List models")
async def list_models(
    caller: Annotated[Caller, Depends(allowed("models:infer"))],
    catalog: CatalogParam,
    after: Annotated[
        str | None, Query(description="Only models behind the one of this name.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Jobs whose models make a page.")] = 100,
) -> ModelPage:
    """Base models first, then what the newest jobs trained, with their checkpoints."""
    models, more = await catalog.page(caller.tenant, after, limit)
    return ModelPage(**paged(map(ModelObject.of, models), more))


@router.get("/{model:path}", summary="Retrieve a model")
async def get_model(
    model: ModelName,
    caller: Annotated[Caller, Depends(allowed("models:infer"))],
    catalog: CatalogParam,
) -> ModelObject:
    """The model of this name."""
    return ModelObject.of(await catalog.find(model, caller.tenant))


@router.delete("/{model:path}", summary="Delete a trained model")
async def delete_model(
    model: ModelName,
    caller: Annotated[Caller, Depends(allowed("jobs:write"))],
    catalog: CatalogParam,
    servers: ServersParam,
    audit: AuditParam,
) -> DeletedModel:
    """Remove a trained model, or one checkpoint, from the disk; where it is served, that ends."""
    gone = await catalog.delete(model, caller.tenant)
    await servers.models.forget(Target(gone.id, gone.path).key)
    await audit(caller, "model.delete", gone.id)
    return DeletedModel(id=gone.id)
