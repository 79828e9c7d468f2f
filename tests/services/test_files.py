"""Uploaded files, as the unmodified client of OpenAI uses them, and against hostile ones."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from services.api.app import create_app
from services.errors import InvalidRequest
from services.files import FileStore
from services.key_store import KeyStore
from services.settings import Settings
from services.store import Store
from tests.services.conftest import task
from tests.services.running import Api
from tests.services.test_api import JOBS, assert_problem

FILES = "/v1/files"
LINES = "\n".join(json.dumps(task(name)) for name in ("a", "b")).encode()


def client_of(api: Api) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key=api.key, max_retries=0)


def stored(home: Path) -> list[str]:
    """Every file below the folder of files, abandoned ones too."""
    folder = home / "files"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def home(api: Api, api_home: Path) -> Path:
    """The data folder of the API process, without what earlier tests uploaded."""
    for path in (api_home / "files").rglob("file-*"):
        path.unlink()
    return api_home


@asynccontextmanager
async def local_app(store: Store, home: Path, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app in this process."""
    own = {"home": home, "redis_url": SecretStr("redis://"), "data_roots": ("/",), **settings}
    app = create_app(Settings(**own), store)
    key = await KeyStore(store.link).create(
        "test", scopes=["files:read", "files:write", "jobs:read", "jobs:write"]
    )
    headers = {"Authorization": f"Bearer {key.token}"}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://127.0.0.1", headers=headers
        ) as client,
    ):
        yield client


async def upload(client: httpx.AsyncClient, content: bytes = LINES, **more: str) -> httpx.Response:
    """An upload of a file named `a.jsonl`."""
    data = {"purpose": "fine-tune", **more}
    return await client.post(FILES, files={"file": ("a.jsonl", content)}, data=data)


async def test_openais_client_uploads_lists_reads_and_deletes(api: Api) -> None:
    async with client_of(api) as client:
        made = [
            await client.files.create(file=(f"{n}.jsonl", LINES), purpose="fine-tune")
            for n in range(3)
        ]
        assert [file.status for file in made] == ["processed"] * 3
        assert (made[0].bytes, made[0].filename) == (len(LINES), "0.jsonl")
        other = await client.files.create(file=("raw", b"\x00\x01"), purpose="user_data")
        assert other.status == "processed"
        ids = [file.id for file in made]
        listed = [file.id async for file in client.files.list(purpose="fine-tune", limit=2)]
        assert listed == ids[::-1]
        assert [file.id async for file in client.files.list(order="asc")] == [*ids, other.id]
        assert (await client.files.list()).data[0].id == other.id
        assert await client.files.retrieve(ids[0]) == made[0]
        assert (await client.files.wait_for_processing(ids[0])).status == "processed"
        assert (await client.files.content(ids[0])).content == LINES
        assert (await client.files.content(other.id)).content == b"\x00\x01"
        gone = await client.files.delete(ids[0])
        assert (gone.id, gone.deleted) == (ids[0], True)
        for call in (client.files.retrieve, client.files.content, client.files.delete):
            with pytest.raises(openai.NotFoundError):
                await call(ids[0])
        with pytest.raises(openai.NotFoundError):
            await client.files.list(after=ids[0])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a": 1}\n[]\n', "line 2 is"),
        (b'{"a": 1}\n\n{"a": 2}', "line 2 is blank"),
        (b"\xff", "line 1 is not UTF-8"),
        (b"{" * 100_000, "line 1 is not JSON"),
        (b"[" * 100_000, "line 1 is nested too deeply"),
        (b"", "is empty"),
        (b"PAR1 and nothing more", "is not a Parquet file"),
    ],
)
async def test_a_malformed_task_file_is_kept_and_says_its_line(
    store: Store, tmp_path: Path, content: bytes, said: str
) -> None:
    async with local_app(store, tmp_path) as client:
        file = (await upload(client, content)).raise_for_status().json()
        assert file["status"] == "error"
        assert said in file["status_details"]
        assert (await client.get(f"{FILES}/{file['id']}/content")).content == content
        plain = (await upload(client, content, purpose="assistants")).json()
        assert (plain["status"], plain["status_details"]) == ("processed", None)
    with pytest.raises(InvalidRequest, match=r"a\.jsonl"):
        await FileStore(store.link, tmp_path / "files").path(file["id"], "default")


async def test_a_job_finds_the_bytes_by_id_and_what_they_are_by_suffix(
    store: Store, tmp_path: Path
) -> None:
    table = tmp_path / "tasks"
    pq.write_table(pa.table({"prompt": ["1?"], "verifier": ["{}"]}), table)
    files = FileStore(store.link, tmp_path / "files")
    async with local_app(store, tmp_path) as client:
        for content, suffix in ((LINES, ".jsonl"), (table.read_bytes(), ".parquet")):
            file = (await upload(client, content)).json()
            path = await files.path(file["id"], "default")
            assert path.suffix == suffix
            assert path.read_bytes() == content
        assert await files.stored_bytes("default") == len(LINES) + table.stat().st_size
        await files.delete(file["id"], "default")
        assert await files.stored_bytes("default") == len(LINES)
        assert not path.exists()


@pytest.mark.parametrize(
    "name", ["../../x.jsonl", "/etc/passwd", "..", "a\\..\\b", "C:\\x", "~root", "файл.jsonl"]
)
async def test_a_name_is_a_word_and_never_a_path(api: Api, home: Path, name: str) -> None:
    async with client_of(api) as client:
        file = await client.files.create(file=(name, LINES), purpose="fine-tune")
        assert file.filename == name.removeprefix("C:\\")  # as browsers once sent it
        assert stored(home) == [f"default/{file.id}.jsonl"]
        content = await client.files.content(file.id)
        disposition = content.response.headers["content-disposition"]
        assert disposition.startswith("attachment; filename*=utf-8''")
        assert disposition.isascii()
        assert "/" not in disposition


@pytest.mark.parametrize("name", ["a\r\nX-Evil: 1", "\x00", "x" * 256, "\u202etxt.exe"])
async def test_a_name_that_cannot_be_shown_is_refused(
    store: Store, tmp_path: Path, name: str
) -> None:
    files = FileStore(store.link, tmp_path / "files")
    async with files.incoming("default", 100) as file:
        await file.flush()
        with pytest.raises(InvalidRequest, match="is no name for a file"):
            await files.add(file, tenant="default", filename=name, purpose="batch")
    assert stored(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["..", "%2e%2e%2fapi_key", "file-%2e%2e", f"file-{'0' * 24}%00", "file-*", "default"]
)
async def test_an_id_that_was_not_given_out_is_404(api: Api, name: str) -> None:
    async with api.client() as client:
        for response in (
            await client.get(f"{FILES}/{name}/content"),
            await client.get(f"{FILES}/{name}"),
            await client.delete(f"{FILES}/{name}"),
        ):
            assert response.status_code in (404, 405)
            assert response.headers["content-type"] == "application/problem+json"


def part(name: str, value: str, filename: str | None = None) -> str:
    named = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename else "")
    return f"--b\r\nContent-Disposition: {named}\r\n\r\n{value}\r\n"


PURPOSE = part("purpose", "fine-tune")
FILE = part("file", "{}", "a.jsonl")


@pytest.mark.parametrize(
    ("form", "field"),
    [
        (PURPOSE + "--b--", "file"),
        (FILE + "--b--", "purpose"),
        (FILE + part("purpose", "world-domination") + "--b--", "purpose"),
        (PURPOSE + FILE + FILE + "--b--", "file"),
        (PURPOSE + PURPOSE + FILE + "--b--", "purpose"),
        (PURPOSE + FILE + part("tenant", "other") + "--b--", "tenant"),
        (PURPOSE + part("status", "processed") + FILE + "--b--", "status"),
        (PURPOSE + part("other", "{}", "b.jsonl") + FILE + "--b--", "other"),
        (PURPOSE + part("file", "{}") + "--b--", "file"),
        (PURPOSE + part("purpose2", "x" * 2000) + FILE + "--b--", "purpose2"),
        (PURPOSE + FILE, "file"),
        (PURPOSE + "--b\r\n\r\n\r\n--b--", "file"),
        ("garbage", "file"),
        ("--b--", "file"),
    ],
)
async def test_a_form_that_is_no_upload_is_refused_and_leaves_nothing(
    api: Api, home: Path, form: str, field: str
) -> None:
    async with api.client() as client:
        response = await client.post(
            FILES,
            content=form.encode(),
            headers={"Content-Type": "multipart/form-data; boundary=b"},
        )
        assert_problem(response, 422, "invalid_request", field)
    assert stored(home) == []


async def test_what_is_no_form_is_415(api: Api, home: Path) -> None:
    async with api.client() as client:
        for headers in ({"Content-Type": "application/json"}, {}):
            response = await client.post(FILES, content=b"{}", headers=headers)
            assert_problem(response, 415, "unsupported_media_type", None)
    assert stored(home) == []


@pytest.mark.parametrize("announced", [True, False])
async def test_an_upload_beyond_the_bound_is_413_and_leaves_nothing(
    api: Api, home: Path, announced: bool
) -> None:
    form = (PURPOSE + part("file", "x" * 3_000_001, "a") + "--b--").encode()

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(form), 65_536):
            yield form[start : start + 65_536]

    async with api.client() as client:
        response = await client.post(
            FILES,
            content=form if announced else chunks(),
            headers={"Content-Type": "multipart/form-data; boundary=b"},
        )
        assert_problem(response, 413, "request_too_large", "file")
    assert stored(home) == []


async def test_a_slow_upload_is_408_and_leaves_nothing(store: Store, tmp_path: Path) -> None:
    async def stalls() -> AsyncIterator[bytes]:
        yield (PURPOSE + FILE).encode()
        await asyncio.Event().wait()

    async with local_app(store, tmp_path, upload_seconds=0.2) as client:
        response = await client.post(
            FILES,
            content=stalls(),
            headers={"Content-Type": "multipart/form-data; boundary=b"},
        )
        assert_problem(response, 408, "request_timeout", None)
        assert response.headers["connection"] == "close"
    assert stored(tmp_path) == []


async def test_an_upload_that_breaks_off_leaves_nothing(api: Api, home: Path, store: Store) -> None:
    head = (
        f"POST {FILES} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {api.key}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000\r\n\r\n"
    )
    port = httpx.URL(api.url).port
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write((head + PURPOSE).encode())
    await writer.drain()
    async with asyncio.timeout(30):
        while not stored(home):
            await asyncio.sleep(0.01)
        writer.close()
        while stored(home):
            await asyncio.sleep(0.01)
    assert await FileStore(store.link, home / "files").list("default") == ([], False)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_disk_without_room_is_507_and_nothing_is_kept(store: Store, tmp_path: Path) -> None:
    async with local_app(store, tmp_path) as client:
        with largest_file(2_000_000):
            response = await upload(client, b"x" * 5_000_000)
        assert_problem(response, 507, "storage_full", None)
        assert response.headers["x-should-retry"] == "false"
        assert stored(tmp_path) == []
        assert (await client.get(FILES)).json()["data"] == []
        assert (await upload(client)).status_code == 200


async def test_a_folder_that_is_not_there_is_503(store: Store, tmp_path: Path) -> None:
    async with local_app(store, tmp_path) as client:
        file = (await upload(client)).json()
        for path in (tmp_path / "files").rglob("file-*"):
            path.unlink()
        response = await client.get(f"{FILES}/{file['id']}/content")
        assert_problem(response, 503, "storage_unavailable", None)
        assert str(tmp_path) not in response.text


async def test_an_upload_is_never_whole_in_memory(store: Store, tmp_path: Path) -> None:
    size = 64 * 1024 * 1024
    piece = b"x" * 65_536

    async def chunks() -> AsyncIterator[bytes]:
        form = part("purpose", "assistants") + part("file", "", "a")
        yield form.removesuffix("\r\n").encode()
        for _ in range(size // len(piece)):
            yield piece
        yield b"\r\n--b--"

    async with local_app(store, tmp_path) as client:
        tracemalloc.start()
        try:
            response = await client.post(
                FILES,
                content=chunks(),
                headers={"Content-Type": "multipart/form-data; boundary=b"},
            )
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert response.json()["bytes"] == size
        assert peak < size / 4


async def test_what_a_killed_upload_left_is_swept_after_a_day(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "files" / "default"
    folder.mkdir(parents=True)
    old, fresh, kept = (folder / name for name in (".incoming-a", ".incoming-b", "file-c.jsonl"))
    for path in (old, fresh, kept):
        path.write_text("x")
    a_day_ago = time.time() - 90_000
    for path in (old, kept):
        os.utime(path, (a_day_ago, a_day_ago))
    async with local_app(store, tmp_path):
        assert stored(tmp_path) == ["default/.incoming-b", "default/file-c.jsonl"]


async def test_a_file_that_an_unfinished_job_reads_is_not_deleted(
    store: Store, tmp_path: Path
) -> None:
    async with local_app(store, tmp_path) as client:
        file = (await upload(client)).json()["id"]
        form = {
            "model": "org/name",
            "training_file": file,
            "method": {"type": "strop", "strop": {}},
        }
        job = (await client.post(JOBS, json=form)).raise_for_status().json()["id"]
        response = await client.delete(f"{FILES}/{file}")
        assert_problem(response, 409, "file_in_use", None)
        assert job in response.json()["detail"]
        (await client.post(f"{JOBS}/{job}/cancel")).raise_for_status()
        assert (await client.delete(f"{FILES}/{file}")).json()["deleted"] is True


async def test_what_is_known_is_304_and_what_has_changed_is_412(
    store: Store, tmp_path: Path
) -> None:
    async with local_app(store, tmp_path) as client:
        made = await upload(client)
        url = f"{FILES}/{made.json()['id']}"
        tag = made.headers["etag"]
        read = await client.get(url)
        assert (read.headers["etag"], read.json()) == (tag, made.json())
        for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
            again = await client.get(url, headers={"If-None-Match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == tag
        assert (await client.get(url, headers={"If-None-Match": '"x"'})).status_code == 200
        response = await client.delete(url, headers={"If-Match": '"other.1"'})
        assert_problem(response, 412, "precondition_failed", None)
        response = await client.delete(url, headers={"If-Match": "no tag"})
        assert_problem(response, 422, "invalid_request", "If-Match")
        assert (await client.delete(url, headers={"If-Match": tag})).status_code == 200
