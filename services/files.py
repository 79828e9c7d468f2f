"""Files that users upload: records in Redis by tenant, bytes in a folder of the tenant's own.

A file's name is a word to show, never a path: the bytes lie under the file's id, with a
suffix that its content gave it. A record is written after its bytes and removed before them,
so there is no record without bytes; a process that is killed in between leaves at most bytes
that nobody finds. Another tenant's file does not exist. Knows nothing of HTTP or of jobs.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast, get_args

from services.callers import is_tenant
from services.errors import InvalidRequest, NotFound, Problem, QuotaExceeded, StorageUnavailable
from services.incoming import Incoming, incoming, storage_error, sweep
from services.redis_link import LIMIT, PREFIX, RedisLink
from services.task_lines import check_task_file

Purpose = Literal["fine-tune", "evals", "batch", "assistants", "vision", "user_data"]
FileStatus = Literal["processed", "error"]
Order = Literal["asc", "desc"]

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
_TASK_FILES: frozenset[Purpose] = frozenset({"fine-tune", "evals"})
MAX_NAME = 255
_PIECE_BYTES = 256 * 1024
_ABANDONED_SECONDS = 24 * 3600.0
_ID = re.compile(r"file-[0-9a-f]{24}", re.ASCII)

# KEYS record list list_of_purpose bytes sequence | ARGV id size tenant field value ...
_ADD = (
    LIMIT
    + """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local most = limit(ARGV[3], 'stored_bytes')
local stored = tonumber(redis.call('GET', KEYS[4]) or 0)
if most and stored + tonumber(ARGV[2]) > most then
  return stored .. ' bytes of files, and may have ' .. string.format('%.0f', most)
end
local time = redis.call('TIME')
local sequence = redis.call('INCR', KEYS[5])
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'bytes', ARGV[2],
  'created_at', time[1] .. '.' .. string.format('%06d', tonumber(time[2])),
  unpack(ARGV, 4))
redis.call('ZADD', KEYS[2], sequence, ARGV[1])
redis.call('ZADD', KEYS[3], sequence, ARGV[1])
redis.call('INCRBY', KEYS[4], ARGV[2])
return 1
"""
)

# KEYS record list list_of_purpose bytes | ARGV id
_REMOVE = """
local size = redis.call('HGET', KEYS[1], 'bytes')
if not size then return 0 end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('DECRBY', KEYS[4], size)
return 1
"""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What is known of an uploaded file. It never changes.

    `created_at` is in seconds since the epoch by the store's clock; `details` says where a
    file of status `error` is malformed; `suffix` is that of the stored bytes.
    """

    id: str
    tenant: str
    filename: str
    purpose: Purpose
    bytes: int
    sha256: str
    created_at: float
    status: FileStatus
    details: str | None
    suffix: str


class FileStore:
    """The files of all tenants.

    Every method raises StoreUnavailable when the server is lost, and StorageUnavailable when
    the folder cannot be used.
    """

    def __init__(self, link: RedisLink, folder: Path) -> None:
        """Keep records on the other end of `link`, and bytes below `folder`."""
        self._link = link
        self._folder = folder
        self._add = link.script(_ADD)
        self._remove = link.script(_REMOVE)

    @asynccontextmanager
    async def incoming(self, tenant: str, max_bytes: int) -> AsyncGenerator[Incoming]:
        """Room for a file of up to `max_bytes` that arrives; `add` makes it stay."""
        async with incoming(self._folder_of(tenant), max_bytes) as file:
            yield file

    async def add(
        self,
        file: Incoming,
        *,
        tenant: str,
        filename: str,
        purpose: Purpose,
        file_id: str | None = None,
    ) -> FileRecord:
        """Keep a file that has arrived and was flushed.

        Tasks are checked line by line; malformed ones are kept with the status `error`, so
        that their owner sees the line. An id that was added before names that same file: the
        answer is its record. Raises InvalidRequest for a name that cannot be shown,
        StorageFull, and QuotaExceeded when the tenant would have more bytes than it may.
        """
        _check_name(filename)
        suffix, details = ".bin", None
        if purpose in _TASK_FILES:
            suffix, details = await asyncio.to_thread(check_task_file, file.path)
        file_id = file_id or new_file_id()
        path = self._folder_of(tenant) / f"{file_id}{suffix}"
        await file.settle(path)
        fields: dict[str, str] = {
            "filename": filename,
            "purpose": purpose,
            "sha256": file.sha256,
            "status": "processed" if details is None else "error",
            "details": details or "",
            "suffix": suffix,
        }
        pairs = [text for pair in fields.items() for text in pair]
        reply = await self._link.run(
            self._add,
            [
                _record(tenant, file_id),
                _list(tenant),
                _list(tenant, purpose),
                _bytes(tenant),
                PREFIX + "file-sequence",
            ],
            [file_id, str(file.size), tenant, *pairs],
        )
        if isinstance(reply, str):
            await asyncio.to_thread(path.unlink, missing_ok=True)
            raise QuotaExceeded(
                f"the file has {file.size} bytes; the tenant {tenant} has {reply}: delete some "
                "first, or ask the operator for more",
                param="file",
            )
        return await self.get(file_id, tenant)

    async def get(self, file_id: str, tenant: str) -> FileRecord:
        """The record of a file. Raises NotFound."""
        fields: dict[str, str] = {}
        if _ID.fullmatch(file_id):
            fields = await self._link.ask("HGETALL", _record(tenant, file_id))
        if not fields:
            raise _no_such_file(file_id)
        return _record_of(fields, tenant)

    async def path(self, file_id: str, tenant: str) -> Path:
        """Where the bytes of a file lie, to be read only; the suffix says what they are.

        Raises NotFound, and InvalidRequest when the file is malformed.
        """
        record = await self.get(file_id, tenant)
        if record.status == "error":
            raise InvalidRequest([Problem(file_id, f"{record.filename}: {record.details}")])
        path = self._path(record)
        if not await asyncio.to_thread(path.is_file):
            raise _lost(record)
        return path

    async def content(self, file_id: str, tenant: str) -> tuple[FileRecord, AsyncIterator[bytes]]:
        """The record of a file and its bytes in pieces. Raises NotFound.

        The file is open then: one that is deleted meanwhile is read to its end.
        """
        record = await self.get(file_id, tenant)
        try:
            file = await asyncio.to_thread(self._path(record).open, "rb")
        except FileNotFoundError:
            raise _lost(record) from None
        except OSError as error:
            raise storage_error(error) from error
        return record, _pieces(file)

    async def list(
        self,
        tenant: str,
        *,
        purpose: Purpose | None = None,
        order: Order = "desc",
        after: str | None = None,
        limit: int = 20,
    ) -> tuple[list[FileRecord], bool]:
        """Up to `limit` files by age, from behind the file `after`; and whether more follow.

        Raises NotFound when there is no file `after` in this list.
        """
        key = _list(tenant, purpose)
        rank, pick = ("ZREVRANK", "ZREVRANGE") if order == "desc" else ("ZRANK", "ZRANGE")
        start = 0
        if after is not None:
            found: int | None = await self._link.ask(rank, key, after)
            if found is None:
                raise _no_such_file(after, param="after")
            start = found + 1
        ids: list[str] = await self._link.ask(pick, key, start, start + limit)
        rows = await self._link.hashes(_record(tenant, file_id) for file_id in ids[:limit])
        # One that was deleted in between has no fields any more.
        return [_record_of(row, tenant) for row in rows if row], len(ids) > limit

    async def delete(self, file_id: str, tenant: str) -> None:
        """Remove a file. Raises NotFound; whether somebody reads it is for the caller to know."""
        record = await self.get(file_id, tenant)
        await self._link.run(
            self._remove,
            [
                _record(tenant, file_id),
                _list(tenant),
                _list(tenant, record.purpose),
                _bytes(tenant),
            ],
            [file_id],
        )
        try:
            await asyncio.to_thread(self._path(record).unlink, missing_ok=True)
        except OSError as error:
            raise storage_error(error) from error

    async def stored_bytes(self, tenant: str) -> int:
        """The bytes of all files of a tenant."""
        return int(await self._link.ask("GET", _bytes(tenant)) or 0)

    async def sweep(self) -> None:
        """Remove what uploads left behind that were killed a day ago or earlier."""
        await asyncio.to_thread(sweep, self._folder, _ABANDONED_SECONDS)

    def _path(self, record: FileRecord) -> Path:
        return self._folder_of(record.tenant) / f"{record.id}{record.suffix}"

    def _folder_of(self, tenant: str) -> Path:
        if not is_tenant(tenant):
            raise ValueError(f"{tenant!r} is no tenant's name, and becomes no folder")
        return self._folder / tenant


def new_file_id() -> str:
    """A fresh random id."""
    return f"file-{secrets.token_hex(12)}"


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
            yield piece


def _lost(record: FileRecord) -> StorageUnavailable:
    return StorageUnavailable(
        f"the bytes of {record.id} are not in the service's folder of files: is it mounted?"
    )


def _check_name(filename: str) -> None:
    if not filename or len(filename) > MAX_NAME or not filename.isprintable():
        raise InvalidRequest(
            [
                Problem(
                    "file",
                    f"{filename[:MAX_NAME]!r} is no name for a file: it has 1 to {MAX_NAME} "
                    "printable characters",
                )
            ]
        )


def _record(tenant: str, file_id: str) -> str:
    return f"{PREFIX}file:{tenant}:{file_id}"


def _list(tenant: str, purpose: Purpose | None = None) -> str:
    return f"{PREFIX}files:{tenant}" if purpose is None else f"{PREFIX}files:{tenant}:{purpose}"


def _bytes(tenant: str) -> str:
    return f"{PREFIX}file-bytes:{tenant}"


def _no_such_file(file_id: str, param: str | None = None) -> NotFound:
    return NotFound(f"there is no file {file_id!r}", param=param)


def _record_of(fields: Mapping[str, str], tenant: str) -> FileRecord:
    return FileRecord(
        id=fields["id"],
        tenant=tenant,
        filename=fields["filename"],
        purpose=cast("Purpose", fields["purpose"]),
        bytes=int(fields["bytes"]),
        sha256=fields["sha256"],
        created_at=float(fields["created_at"]),
        status=cast("FileStatus", fields["status"]),
        details=fields["details"] or None,
        suffix=fields["suffix"],
    )
