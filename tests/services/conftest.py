"""A real Valkey server for each test run, and an empty store for each test."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
import redis

from services.redis_server import EmbeddedValkey
from services.store import Store


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
