"""A file that arrives: bytes go in piece by piece, and either all of them stay or none.

What has arrived lies under a name of its own until `settle` gives it its place; a file that
was not settled is removed when its context ends, and one whose process was killed when the
next one sweeps. Knows nothing of requests or records.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from services.errors import StorageFull, StorageUnavailable, StropError, TooLarge
from services.private_files import make_private_folder

_PREFIX = ".incoming-"
_BUFFER_BYTES = 1024 * 1024
_T = TypeVar("_T")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Incoming:
    """A file on its way into `folder`. Every method raises StorageFull or StorageUnavailable."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Use `incoming`."""
        self.path = path
        """Where the bytes lie until they are settled."""
        self.size = 0
        """Bytes that were written."""
        self._max_bytes = max_bytes
        self._hash = hashlib.sha256()
        self._buffer = bytearray()
        # A buffered file has a lock: closing it waits for a write that a cancellation left behind.
        self._file = path.open("xb")

    @property
    def sha256(self) -> str:
        """The hash of the bytes that were flushed, hexadecimal."""
        return self._hash.hexdigest()

    async def write(self, data: bytes) -> None:
        """Append bytes. Raises TooLarge when they are more than the file may have."""
        self.size += len(data)
        if self.size > self._max_bytes:
            raise TooLarge(
                f"the file is larger than {self._max_bytes} bytes; an operator can raise "
                "STROP_MAX_UPLOAD_BYTES",
                param="file",
            )
        self._buffer += data
        if len(self._buffer) >= _BUFFER_BYTES:
            await self._drain(sync=False)

    async def flush(self) -> None:
        """Bring everything that was written to the disk."""
        await self._drain(sync=True)

    async def settle(self, target: Path) -> None:
        """Give the flushed file its place, durably; whatever was there is replaced."""
        await asyncio.to_thread(_told, _settle, self.path, target)

    async def _drain(self, *, sync: bool) -> None:
        data, self._buffer = bytes(self._buffer), bytearray()
        await asyncio.to_thread(_told, self._store, data, sync)

    def _store(self, data: bytes, sync: bool) -> None:
        self._hash.update(data)
        self._file.write(data)
        if sync:
            self._file.flush()
            os.fsync(self._file.fileno())

    def discard(self) -> None:
        """Close the file, and remove it unless it was settled."""
        with contextlib.suppress(OSError):  # the disk may be full: what is unwritten is unwanted
            self._file.close()
        self.path.unlink(missing_ok=True)


@asynccontextmanager
async def incoming(folder: Path, max_bytes: int) -> AsyncGenerator[Incoming]:
    """A new file of up to `max_bytes` in this folder, gone at the end unless it was settled."""
    path = folder / f"{_PREFIX}{secrets.token_hex(8)}"

    def create() -> Incoming:
        make_private_folder(folder)
        return Incoming(path, max_bytes)

    file = await asyncio.to_thread(_told, create)
    try:
        yield file
    finally:
        await asyncio.to_thread(file.discard)


def sweep(folder: Path, older_than_s: float) -> None:
    """Remove what uploads left behind whose process was killed, anywhere below `folder`."""
    for path in folder.glob(f"*/{_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > older_than_s:
                path.unlink()


def _settle(source: Path, target: Path) -> None:
    source.replace(target)
    descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _told(work: Callable[..., _T], *args: Any) -> _T:
    try:
        return work(*args)
    except OSError as error:
        raise storage_error(error) from error


def storage_error(error: OSError) -> StropError:
    """What an error of the file system means to a caller; the path stays in the log."""
    if error.errno in _FULL:
        return StorageFull(
            "no room is left on the service's disk for this file; nothing of it was kept: delete "
            "files, or ask the operator for room"
        )
    return StorageUnavailable(
        f"the service's folder of files cannot be used: {error.strerror or error}"
    )
