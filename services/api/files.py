"""The routes of files: upload, list, retrieve, content, delete, as OpenAI's clients use them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Literal, cast
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect

from services.api.audited import AuditParam
from services.api.auth import StoreParam, allowed
from services.api.conditional import IfMatchParam, represented
from services.api.multipart import UploadForm, read_upload
from services.api.once import OnceParam
from services.api.pages import Page, paged
from services.callers import Caller
from services.errors import FileInUse, InvalidRequest, Problem, TooSlow
from services.files import PURPOSES, FileRecord, FileStatus, FileStore, Order, Purpose
from services.jobs import Job
from services.settings import Settings
from services.store import Store

router = APIRouter(prefix="/v1/files", tags=["Files"])

IDLE_SECONDS = 30.0
"""Longest wait for the next piece of an upload."""

Reader = Annotated[Caller, Depends(allowed("files:read"))]
Writer = Annotated[Caller, Depends(allowed("files:write"))]


class FileObject(BaseModel):
    """An uploaded file."""

    id: str = Field(description="Identifier, `file-...`: what a job names as its file.")
    object: Literal["file"] = Field(default="file", description="Kind of object.")
    bytes: int = Field(description="Size of the file.")
    created_at: int = Field(description="Seconds since the epoch.")
    filename: str = Field(description="The name it was uploaded under: a word, not a path.")
    purpose: Purpose = Field(description="What it is for; `fine-tune` and `evals` hold tasks.")
    status: FileStatus = Field(
        description="`error` when a file of tasks is malformed; no job can use it then."
    )
    status_details: str | None = Field(description="What is malformed, and on which line.")
    expires_at: int | None = Field(default=None, description="Always null: files stay.")
    sha256: str = Field(description="SHA-256 of the bytes, hexadecimal.")

    @classmethod
    def of(cls, file: FileRecord) -> FileObject:
        """The file on the wire."""
        return cls(
            id=file.id,
            bytes=file.bytes,
            created_at=int(file.created_at),
            filename=file.filename,
            purpose=file.purpose,
            status=file.status,
            status_details=file.details,
            sha256=file.sha256,
        )


class FilePage(Page):
    """A page of files."""

    data: list[FileObject] = Field(description="The files.")


class FileDeleted(BaseModel):
    """A file that is no more."""

    id: str = Field(description="Its identifier.")
    object: Literal["file"] = Field(default="file", description="Kind of object.")
    deleted: Literal[True] = Field(default=True, description="Always true.")


def get_files(request: Request) -> FileStore:
    """The files of this app."""
    return request.app.state.files


def _settings(request: Request) -> Settings:
    return request.app.state.settings


FilesParam = Annotated[FileStore, Depends(get_files)]
SettingsParam = Annotated[Settings, Depends(_settings)]

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "additionalProperties": False,
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "The file, with a file name.",
                        },
                        "purpose": {
                            "type": "string",
                            "enum": list(PURPOSES),
                            "description": "What it is for.",
                        },
                    },
                }
            }
        },
    }
}


@router.post("", summary="Upload a file", response_model=FileObject, openapi_extra=_FORM)
async def upload_file(
    request: Request,
    files: FilesParam,
    settings: SettingsParam,
    caller: Writer,
    audit: AuditParam,
    once: OnceParam,
) -> Response:
    """Store a file, as it arrives. Tasks (`fine-tune`, `evals`) are JSON lines or Parquet."""
    try:
        async with (
            asyncio.timeout(settings.upload_seconds),
            once.turn(caller.tenant) as turn,
            files.incoming(caller.tenant, settings.max_upload_bytes) as file,
        ):
            form = await read_upload(
                request.headers.get("content-type", ""), _pieces(request), file.write
            )
            purpose = _purpose(form)
            await file.flush()

            async def create(request_id: str | None) -> Response:
                record = await files.add(
                    file,
                    tenant=caller.tenant,
                    filename=form.filename,
                    purpose=purpose,
                    file_id=request_id and f"file-{request_id}",
                )
                await audit(caller, "file.upload", record.id, bytes=record.bytes, purpose=purpose)
                return _represented(request, record)

            return await turn(f"{form.filename} {purpose} {file.sha256}", create)
    except TimeoutError:
        raise TooSlow(
            f"the file did not arrive within {settings.upload_seconds:.0f} s; an operator can "
            "raise STROP_UPLOAD_SECONDS"
        ) from None


@router.get("", summary="List files")
async def list_files(
    files: FilesParam,
    caller: Reader,
    purpose: Annotated[Purpose | None, Query(description="Only files for this purpose.")] = None,
    order: Annotated[Order, Query(description="By age, `desc` is newest first.")] = "desc",
    after: Annotated[str | None, Query(description="Only files behind the one of this id.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Items in a page.")] = 10_000,
) -> FilePage:
    """The files that were uploaded and not deleted."""
    found, more = await files.list(
        caller.tenant, purpose=purpose, order=order, after=after, limit=limit
    )
    return FilePage(**paged(map(FileObject.of, found), more))


@router.get("/{file_id}", summary="Retrieve a file", response_model=FileObject)
async def get_file(request: Request, file_id: str, files: FilesParam, caller: Reader) -> Response:
    """What is known of the file."""
    return _represented(request, await files.get(file_id, caller.tenant))


@router.get(
    "/{file_id}/content",
    summary="Read a file",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The bytes as they were uploaded.",
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
            },
        }
    },
)
async def get_content(file_id: str, files: FilesParam, caller: Reader) -> StreamingResponse:
    """The bytes of the file, whatever its status."""
    record, content = await files.content(file_id, caller.tenant)
    return StreamingResponse(
        content,
        media_type="application/octet-stream",
        headers={
            "Content-Length": str(record.bytes),
            "Content-Disposition": f"attachment; filename*=utf-8''{quote(record.filename, '')}",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private, no-cache",
        },
    )


@router.delete("/{file_id}", summary="Delete a file")
async def delete_file(
    file_id: str,
    files: FilesParam,
    store: StoreParam,
    caller: Writer,
    audit: AuditParam,
    if_match: IfMatchParam,
) -> FileDeleted:
    """Remove the file; refused while a job that has not ended reads it."""
    if_match.check(_revision(await files.get(file_id, caller.tenant)))
    reader = await _reader_of(file_id, caller.tenant, store)
    if reader is not None:
        raise FileInUse(
            f"job {reader} reads {file_id} and has not ended: cancel it, or wait for its end"
        )
    await files.delete(file_id, caller.tenant)
    await audit(caller, "file.delete", file_id)
    return FileDeleted(id=file_id)


def _revision(file: FileRecord) -> str:
    return file.sha256[:16]


def _represented(request: Request, file: FileRecord) -> Response:
    return represented(request, FileObject.of(file), _revision(file))


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises TooSlow when nothing comes, InvalidRequest when it breaks."""
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                piece = await anext(stream, None)
        except TimeoutError:
            raise TooSlow(f"nothing of the file arrived for {IDLE_SECONDS:.0f} s") from None
        except ClientDisconnect:
            raise InvalidRequest([Problem("file", "the connection broke")]) from None
        if piece is None:
            return
        yield piece


def _purpose(form: UploadForm) -> Purpose:
    fields = dict(form.fields)
    purpose = fields.pop("purpose", None)
    problems = [Problem(name, "is not known to an upload: leave it out") for name in fields]
    if purpose is None:
        problems.append(Problem("purpose", f"is missing: one of {', '.join(PURPOSES)}"))
    elif purpose not in PURPOSES:
        problems.append(Problem("purpose", f"is {purpose!r}: one of {', '.join(PURPOSES)}"))
    if problems:
        raise InvalidRequest(problems)
    return cast("Purpose", purpose)


async def _reader_of(file_id: str, tenant: str, store: Store) -> str | None:
    """A job that has not ended and reads the file."""
    after, more = None, True
    while more:
        jobs, more = await store.list_jobs(tenant, after, 100)
        for job in jobs:
            if not job.finished and file_id in _files_of(job):
                return job.id
        after = jobs[-1].id if jobs else None
    return None


def _files_of(job: Job) -> set[str]:
    """The ids of the uploaded files a job reads; their paths are named for them."""
    tasks = job.spec["tasks"]
    return {Path(str(path)).stem for path in (tasks["train"], tasks["holdout"]) if path}
