"""Where what a request names lies here: uploaded files, the operator's folders, trained models.

In: a name out of a request and the tenant that asks. Out: a path, or `Misplaced`, which says
what may be named. The data folder itself is never reached by path: it holds every tenant's
files, and keys. Does not look into files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from services.api.model_policy import ModelPolicy
from services.errors import InvalidRequest, NotFound
from services.files import FileStore
from services.model_names import PREFIX as MODEL_PREFIX

FILE_PREFIX = "file-"

FindModel = Callable[[str, str], Awaitable[str]]


class Misplaced(ValueError):
    """A name that leads nowhere, or where the caller may not look."""


class Places:
    """The files that jobs of this service may name."""

    def __init__(
        self,
        files: FileStore,
        roots: Sequence[Path],
        home: Path,
        find_model: FindModel,
        models: ModelPolicy,
    ) -> None:
        """`roots` are the folders that the operator opens to paths; `home` is never among them.

        `find_model` gives the folder of a trained model of a tenant, or raises NotFound;
        `models` says which others may be used.
        """
        self.models = models
        self._files = files
        self._find_model = find_model
        self._roots = [root.resolve() for root in roots]
        self._home = home.resolve()

    async def path(self, name: str, tenant: str) -> Path:
        """Where a file of tasks or documents lies. Raises Misplaced."""
        if name.startswith(FILE_PREFIX):
            try:
                return await self._files.path(name, tenant)
            except NotFound as error:
                raise Misplaced(f"{error}; upload one by POST /v1/files") from None
            except InvalidRequest as error:
                raise Misplaced(str(error)) from None
        if not Path(name).is_absolute():
            raise Misplaced(
                f"{name!r} must be an absolute path on the service's machine, or the id of an "
                "uploaded file"
            )
        path = await asyncio.to_thread(Path(name).resolve)
        if not self._open(path):
            raise Misplaced(
                f"{name!r} lies outside of the folders that jobs may name; upload it by POST "
                "/v1/files, or let an operator add its folder to STROP_DATA_ROOTS"
            )
        return path

    async def model(self, name: str, tenant: str) -> str:
        """The name of a model as jobs know it: the folder of a trained one. Raises Misplaced."""
        if not name.startswith(MODEL_PREFIX):
            return name
        try:
            return await self._find_model(name, tenant)
        except NotFound as error:
            raise Misplaced(str(error)) from None

    def _open(self, path: Path) -> bool:
        if path.is_relative_to(self._home):
            return False
        return any(path.is_relative_to(root) for root in self._roots)
