"""Where databases may lie: the folders whose files an SQL spec may name.

A worker is walled in before it hears of its first task, so the folders are said when a pool
is made; a spec that names a file elsewhere, also by `..` or a symbolic link, is refused
before any work. Opens no database.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from verifiers.spec import AnySpec, CompositeSpec, Part, SpecError
from verifiers.sql_spec import SqlSpec

FILE_ENGINES = ("sqlite", "duckdb")
"""Engines whose `database` is the path of a file."""
_SYSTEM = ("proc", "sys", "dev", "etc")

Folder = str | os.PathLike[str]


class Databases:
    """Folders, of which relative paths start from the first.

    Raises ValueError for what is no folder, and for the system's own.
    """

    def __init__(self, folders: Iterable[Folder]) -> None:
        self.folders = tuple(dict.fromkeys(os.path.realpath(folder) for folder in folders))
        for folder in self.folders:
            if not os.path.isdir(folder):
                raise ValueError(f"databases: {folder} is no folder")
            if is_systems(folder):
                raise ValueError(f"databases: {folder} holds more than databases")

    def located(self, spec: AnySpec) -> AnySpec:
        """The spec with every file by its real absolute path. Raises SpecError."""
        if isinstance(spec, SqlSpec) and spec.engine in FILE_ENGINES:
            return spec.model_copy(update={"database": self._locate(spec.database)})
        if isinstance(spec, CompositeSpec):
            gate = spec.gate if spec.gate is None else self.located(spec.gate)
            parts = tuple(self._located(part) for part in spec.parts)
            given = {"gate": gate} if gate is not None else {}
            return spec.model_copy(update={"parts": parts, **given})
        return spec

    def _located(self, part: Part) -> Part:
        return part.model_copy(update={"verifier": self.located(part.verifier)})

    def _locate(self, path: str) -> str:
        if not self.folders:
            raise SpecError(
                f"sql verifier: database: {path[:200]!r} cannot be read: no folder was named "
                "in which databases lie (`strop verify --databases`, `WorkerPool(databases=...)`)"
            )
        real = os.path.realpath(os.path.join(self.folders[0], path))
        if any(os.path.commonpath((folder, real)) == folder for folder in self.folders):
            return real
        raise SpecError(
            f"sql verifier: database: {path[:200]!r} lies outside {', '.join(self.folders)}, "
            "the folders in which databases may lie (`strop verify --databases`, "
            "`WorkerPool(databases=...)`)"
        )


def here() -> tuple[str, ...]:
    """The current folder, unless it is the system's own."""
    folder = os.path.realpath(os.curdir)
    return () if is_systems(folder) else (folder,)


def is_systems(folder: str) -> bool:
    """Whether a real path is the root folder or lies in one that is not for data."""
    return folder == "/" or folder.split("/")[1] in _SYSTEM
