"""Pages: what every list answers with, a stretch of it and whether more follows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Protocol

from pydantic import BaseModel, Field


class Item(Protocol):
    """What a list holds: an object that the next page can begin behind."""

    id: str


class Page(BaseModel):
    """What all pages have; each kind adds its `data`."""

    object: Literal["list"] = Field(default="list", description="Kind of object.")
    first_id: str | None = Field(description="Id of the first item.")
    last_id: str | None = Field(description="Id of the last item: the next page's `after`.")
    has_more: bool = Field(description="Whether another page follows.")


def paged(data: Iterable[Item], has_more: bool) -> dict[str, Any]:
    """The fields of a page of these objects."""
    items = list(data)
    ids = [item.id for item in items] or [None]
    return {"data": items, "first_id": ids[0], "last_id": ids[-1], "has_more": has_more}
