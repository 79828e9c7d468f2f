"""What a task asks of the SQL judge."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from verifiers.extract import Extract, FencedBlock


class SqlSpec(BaseModel):
    """A query that gives the same rows as `query`, here and on made-up copies of the database."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["sql"] = "sql"
    engine: Literal["sqlite", "duckdb"] = Field("sqlite", description="What runs the queries.")
    database: str = Field(min_length=1, description="Path of the database file; never written.")
    query: str = Field(min_length=1, max_length=100_000, description="The gold query.")
    column_order: bool = Field(True, description="Whether columns must stand in the gold's order.")
    soft_f1: bool = Field(
        False, description="Whether a wrong query scores the F1 of its cells, below 1."
    )
    extract: Extract = Field(FencedBlock(), description="Where the completion's query is found.")

    @model_validator(mode="after")
    def _is_text(self) -> Self:
        for name in ("database", "query"):
            if "\0" in getattr(self, name) or not getattr(self, name).strip():
                raise ValueError(f"{name}: is empty or has a NUL")
        return self
