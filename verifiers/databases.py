"""Where databases may lie: the folders whose files an SQL spec may name.

A worker is walled in before it hears of its first task, so the folders are said when a pool
is made; a spec that names a file elsewhere, also by `..` or a symbolic link, is refused
before any work. Where whoever writes the specs may read every file anyway, as in a pool of
his own, the folders are those that the specs name, and a worker that may not read one yet is
replaced by one that may. Opens no database.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable

from verifiers.spec import AnySpec, SpecError, located, plain
from verifiers.sql_spec import SqlSpec

FILE_ENGINES = ("sqlite", "duckdb")
"""Engines whose `database` is the path of a file."""
_SYSTEM = ("proc", "sys", "dev", "etc")

Folder = str | os.PathLike[str]


class Databases:
    """Folders, of which relative paths start from the first; None for those that specs name,
    relative paths then start from the current one.

    Raises ValueError for what is no folder, and for the system's own.
    """

    def __init__(self, folders: Iterable[Folder] | None) -> None:
        self._grows, self._growing = folders is None, threading.Lock()
        self._base = os.getcwd() if folders is None else ""
        self.folders: tuple[str, ...] = ()
        if folders is None:
            return
        self.folders = tuple(dict.fromkeys(os.path.realpath(folder) for folder in folders))
        for folder in self.folders:
            if not os.path.isdir(folder):
                raise ValueError(f"databases: {folder} is no folder")
            if is_systems(folder):
                raise ValueError(f"databases: {folder} holds more than databases")

    def located(self, spec: AnySpec) -> tuple[AnySpec, int]:
        """The spec with every file by its real absolute path, and how many of the folders,
        from the first, a worker must be able to read. Raises SpecError."""
        if not any(names_a_file(leaf) for leaf in plain(spec)):
            return spec, 0
        if not self.folders and not self._grows:
            raise SpecError(
                "sql verifier: database: no folder was named in which databases may lie "
                "(`strop verify --databases`, `WorkerPool(databases=...)`)"
            )
        found = located(spec, self._base or self.folders[0])
        for leaf in plain(found):
            if isinstance(leaf, SqlSpec) and names_a_file(leaf):
                self._check(leaf.database)
        return found, len(self.folders)

    def _check(self, path: str) -> None:
        if any(os.path.commonpath((folder, path)) == folder for folder in self.folders):
            return
        if not self._grows:
            raise SpecError(
                f"sql verifier: database: {path[:200]!r} lies outside {', '.join(self.folders)}, "
                "where databases may lie (`strop verify --databases`, `WorkerPool(databases=...)`)"
            )
        folder = os.path.dirname(path)
        if is_systems(folder):
            raise SpecError(f"sql verifier: database: {folder} holds more than databases")
        with self._growing:
            if folder not in self.folders and os.path.isdir(folder):
                self.folders = (*self.folders, folder)


def names_a_file(spec: AnySpec) -> bool:
    """Whether its database is a file."""
    return isinstance(spec, SqlSpec) and spec.engine in FILE_ENGINES


def is_systems(folder: str) -> bool:
    """Whether a real path is the root folder or lies in one that is not for data."""
    return folder == "/" or folder.split("/")[1] in _SYSTEM
