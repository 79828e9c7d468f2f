"""What a task asks of the SQL judge."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from verifiers.extract import Extract, FencedBlock

_CONNECTION = re.compile(r"postgres(?:ql)?://|\s*[a-z_]+\s*=|\$STROP_SQL_[A-Z0-9_]+\Z")

_PASSWORD = re.compile(r"://[^/@]*:[^/]*@|password\s*=", re.IGNORECASE)


class SqlSpec(BaseModel):
    """A query that gives the same rows as `query`, here and on made-up copies of the database."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["sql"] = "sql"
    engine: Literal["sqlite", "duckdb", "postgres"] = Field(
        "sqlite", description="What runs the queries."
    )
    database: str = Field(
        min_length=1,
        description="Path of the database file, never written; for postgres a connection string, "
        "or `$STROP_SQL_<NAME>`: the environment variable that holds it.",
    )
    query: str = Field(min_length=1, max_length=100_000, description="The gold query.")
    column_order: bool = Field(True, description="Whether columns must stand in the gold's order.")
    soft_f1: bool = Field(
        False, description="Whether a wrong query scores the F1 of its cells, below 1."
    )
    extract: Extract = Field(FencedBlock(), description="Where the completion's query is found.")

    @property
    def granted_s(self) -> float:
        """Wall seconds that judging may take, where the network has a part in it; else 0."""
        return 60.0 if self.engine == "postgres" else 0.0

    @model_validator(mode="after")
    def _is_text(self) -> Self:
        for name in ("database", "query"):
            if "\0" in getattr(self, name) or not getattr(self, name).strip():
                raise ValueError(f"{name}: is empty or has a NUL")
        if self.engine == "postgres" and not _CONNECTION.match(self.database):
            raise ValueError(
                "database: is neither postgresql://..., nor key=value pairs, nor $STROP_SQL_<NAME>"
            )
        if self.engine == "postgres" and _PASSWORD.search(self.database):
            raise ValueError(
                "database: holds a password, and tasks are shown; put the connection string into "
                "an environment variable $STROP_SQL_<NAME> of whoever runs the verifiers"
            )
        return self
