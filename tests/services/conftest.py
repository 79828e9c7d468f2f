"""A real Valkey server for each test run, and an empty store for each test."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
import redis

from services.key_store import KeyStore
from services.redis_server import EmbeddedValkey
from services.store import Store
from tests.services.running import Api, api_server


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey.start(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def store_url(valkey: EmbeddedValkey) -> str:
    """The url of an empty store."""
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
    return valkey.url


@pytest_asyncio.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    store = await Store.open(store_url)
    yield store
    await store.close()


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of databases that graders may query."""
    return tmp_path_factory.mktemp("databases")


@pytest.fixture(scope="session")
def api_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of the API process."""
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="session")
def api_process(valkey: EmbeddedValkey, databases: Path, api_home: Path) -> Iterator[str]:
    """The url of an API process over the session's Valkey."""
    settings = {
        "STROP_HOME": str(api_home),
        "STROP_REDIS_URL": valkey.url,
        "STROP_MAX_BODY_BYTES": "65536",
        "STROP_MAX_UPLOAD_BYTES": "3000000",
        "STROP_DATABASES": str(databases),
        "STROP_DATA_ROOTS": "/",
        "STROP_WEBHOOK_ALLOW": "127.0.0.1",
    }
    with api_server(api_home / "log", **settings) as url:
        yield url


@pytest_asyncio.fixture
async def api(api_process: str, store: Store) -> Api:
    keys = KeyStore(store.link)
    admin = await keys.create("test", scopes=["admin"])
    return Api(api_process, admin.token, store, keys)


@pytest.fixture
def task_file(tmp_path: Path) -> Path:
    """A JSONL file of two good tasks."""
    path = tmp_path / "tasks.jsonl"
    path.write_text("\n".join(json.dumps(task(name)) for name in ("a", "b")))
    return path


def task(name: str) -> dict[str, object]:
    return {
        "id": name,
        "messages": [{"role": "user", "content": "1 + 1 = ?"}],
        "verifier": {"kind": "math", "answer": "2"},
        "privileged": {"answer": "2", "trace": "One and one make two."},
    }
