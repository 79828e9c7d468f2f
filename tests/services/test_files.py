"""Uploaded files, as the unmodified client of OpenAI uses them, and against hostile ones."""

from __future__ import annotations

import json

import openai
import pytest

from tests.services.conftest import task
from tests.services.running import Api

FILES = "/v1/files"
LINES = "\n".join(json.dumps(task(name)) for name in ("a", "b")).encode()


def client_of(api: Api) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key=api.key, max_retries=0)


async def test_openais_client_uploads_lists_reads_and_deletes(api: Api) -> None:
    async with client_of(api) as client:
        made = [
            await client.files.create(file=(f"{n}.jsonl", LINES), purpose="fine-tune")
            for n in range(3)
        ]
        assert [file.status for file in made] == ["processed"] * 3
        assert (made[0].bytes, made[0].filename) == (len(LINES), "0.jsonl")
        other = await client.files.create(file=b"\x00\x01", purpose="user_data")
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
