"""Graders through the REST API: OpenAI's shapes, our judges, nothing of the server's to read."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from services.api.judging import Judging
from services.errors import InvalidRequest
from services.key_store import KeyStore
from services.store import Store
from tests.services.in_process import client_of, serving
from tests.services.running import Api
from tests.verifiers.answering_server import serving as asking
from verifiers.spec import parse_spec

RUN = "/v1/fine_tuning/alpha/graders/run"
VALIDATE = "/v1/fine_tuning/alpha/graders/validate"
CHECK = {
    "type": "string_check",
    "name": "city",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.city }}",
    "operation": "eq",
}
ASKED = [{"role": "user", "content": "{{ item.city }} is {{ sample.output_text }}?"}]
CLEAN = {
    "formula_parse_error": False,
    "sample_parse_error": False,
    "truncated_observation_error": False,
    "unresponsive_reward_error": False,
    "invalid_variable_error": False,
    "other_error": False,
    "python_grader_server_error": False,
    "python_grader_server_error_type": None,
    "python_grader_runtime_error": False,
    "python_grader_runtime_error_details": None,
    "model_grader_server_error": False,
    "model_grader_refusal_error": False,
    "model_grader_parse_error": False,
    "model_grader_server_error_details": None,
}


def python(body: str) -> dict[str, Any]:
    return {"type": "python", "name": "p", "source": f"def grade(sample, item):\n    {body}\n"}


async def run(api: Api, grader: Any, sample: str, **item: Any) -> dict[str, Any]:
    async with api.client() as client:
        body = {"grader": grader, "model_sample": sample, "item": item}
        response = await client.post(RUN, json=body)
        assert response.status_code == 200, response.text
        return response.json()


async def refused(api: Api, grader: Any, path: str = RUN, **item: Any) -> str:
    async with api.client() as client:
        body: dict[str, Any] = {"grader": grader}
        if path == RUN or item:
            body["item"] = item
        if path == RUN:
            body["model_sample"] = "Oslo"
        response = await client.post(path, json=body)
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["error"]["param"] == "grader"
    assert "Traceback" not in response.text
    return response.json()["error"]["message"]


async def test_a_run_has_openais_shape(api: Api) -> None:
    done = await run(api, CHECK, "Oslo", city="Oslo")
    assert set(done) == {
        "reward", "metadata", "sub_rewards", "model_grader_token_usage_per_model",
    }  # fmt: skip
    assert (done["reward"], done["sub_rewards"]) == (1.0, {})
    metadata = done["metadata"]
    assert (metadata["name"], metadata["type"]) == ("city", "string_check")
    assert metadata["errors"] == CLEAN
    assert 0 <= metadata["execution_time"] < 60
    assert metadata["status"] == "correct"
    assert (await run(api, CHECK, "Rome", city="Oslo"))["reward"] == 0.0


@pytest.mark.parametrize(
    ("grader", "right", "wrong"),
    [
        ({"type": "math", "answer": "{{item.gold}}"}, "\\boxed{\\frac{1}{2}}", "0.4"),
        ({"kind": "math", "answer": "0.5"}, "0.5", "1"),
        ({"type": "choice", "answer": "B", "choices": ["x", "y"]}, "B", "A"),
        ({"type": "text", "regex": "O.*"}, "Oslo", "Rome"),
        ({"type": "schema", "schema": {"type": "object"}}, "{}", "[]"),
        ({"type": "code", "tests": ["assert f(2) == 4"], "entry_point": "f"},
         "def f(x): return x * x", "def f(x): return x"),
        ({"type": "composite", "parts": [{"verifier": {"kind": "text", "answer": "a"}}]}, "a", "b"),
        ({"type": "text_similarity", "name": "t", "input": "{{sample.output_text}}",
          "reference": "a b", "evaluation_metric": "rouge_1"}, "a b", "c d"),
        (python("return float(sample['output_text'] == item['gold'])"), "0.5", "1"),
    ],
)  # fmt: skip
async def test_every_kind_is_served(api: Api, grader: Any, right: str, wrong: str) -> None:
    assert (await run(api, grader, right, gold="0.5"))["reward"] == 1.0
    assert (await run(api, grader, wrong, gold="0.5"))["reward"] == 0.0


async def test_multi_shows_the_reward_of_each_grader(api: Api) -> None:
    grader = {
        "type": "multi", "name": "m", "calculate_output": "(city + 3 * other) / 4",
        "graders": {"city": CHECK, "other": {**CHECK, "operation": "ne"}},
    }  # fmt: skip
    done = await run(api, grader, "Oslo", city="Oslo")
    assert done["reward"] == 0.25
    assert done["sub_rewards"] == {"city": 1.0, "other": 0.0} == done["metadata"]["scores"]


@pytest.mark.parametrize(
    ("grader", "reward", "status", "flags"),
    [
        ({**CHECK, "input": "{{sample.output_json.city}}"}, 0.0, "malformed",
         {"sample_parse_error": True}),
        (python("while True: pass"), 0.0, "timeout", {"unresponsive_reward_error": True}),
        (python("return 1 / 0"), None, "infra_error",
         {"python_grader_runtime_error": True,
          "python_grader_runtime_error_details": "ZeroDivisionError: division by zero"}),
        ({"type": "multi", "name": "m", "calculate_output": "p", "graders": {"p": python("return 1 / 0")}},
         None, "infra_error",
         {"python_grader_runtime_error": True,
          "python_grader_runtime_error_details": "ZeroDivisionError: division by zero"}),
        ({"type": "multi", "name": "m", "calculate_output": "2 + c", "graders": {"c": CHECK}},
         None, "infra_error", {"formula_parse_error": True}),
        ({"type": "remote", "url": "https://127.0.0.1:1/", "secret": "none"},
         None, "infra_error", {"other_error": True}),
    ],
)  # fmt: skip
async def test_what_goes_wrong_is_flagged_and_a_fault_is_no_reward(
    api: Api, grader: Any, reward: float | None, status: str, flags: dict[str, Any]
) -> None:
    if grader["type"] == "python" and status == "timeout":
        grader = {"kind": "python", "source": grader["source"], "timeout_s": 1}
    done = await run(api, grader, "Oslo", city="Oslo")
    assert (done["reward"], done["metadata"]["status"]) == (reward, status)
    assert done["metadata"]["errors"] == {**CLEAN, **flags}


async def test_a_bad_grader_is_refused_with_the_reason(api: Api) -> None:
    asks_a_model = {"type": "score_model", "name": "s", "model": "m", "input": ASKED}
    for path in (RUN, VALIDATE):
        assert "no endpoint" in await refused(api, asks_a_model, path, city="Oslo")
        assert "is no grader" in await refused(api, {"type": "oracle"}, path)
        assert "no Python" in await refused(api, {**python("return 1"), "source": "def"}, path)
    assert "nothing at {{ item.city }}" in await refused(api, CHECK, town="Oslo")
    assert "nothing at {{ item.city }}" in await refused(api, CHECK, VALIDATE, town="Oslo")


async def test_validate_answers_with_the_grader(api: Api) -> None:
    async with api.client() as client:
        for grader in (CHECK, {"type": "math", "answer": "{{item.answer}}"}):
            response = await client.post(VALIDATE, json={"grader": grader})
            assert (response.status_code, response.json()) == (200, {"grader": grader})


async def test_a_caller_cannot_ask_for_more_than_the_service_gives(api: Api) -> None:
    forever = {"kind": "code", "stdio": [{"stdin": "", "stdout": ""}] * 100, "timeout_s": 60}
    assert "6030 s of wall time; 300 are allowed" in await refused(api, forever)
    greedy = {"kind": "python", "source": python("return 1")["source"], "memory_mb": 16_000}
    assert "2048 are allowed" in await refused(api, greedy)


async def test_only_databases_of_the_operators_folder_can_be_queried(
    api: Api, databases: Path, tmp_path: Path
) -> None:
    for folder in (databases, tmp_path):
        with sqlite3.connect(folder / "shop.sqlite") as database:
            database.execute("CREATE TABLE IF NOT EXISTS t AS SELECT 42 AS secret")
        database.close()
    link = databases / "link.sqlite"
    link.symlink_to(tmp_path / "shop.sqlite")

    def sql(name: str) -> dict[str, Any]:
        return {"kind": "sql", "database": name, "query": "SELECT secret FROM t"}

    for name in ("shop.sqlite", str(databases / "shop.sqlite"), "x/../shop.sqlite"):
        assert (await run(api, sql(name), "SELECT secret FROM t"))["reward"] == 1.0
    outside = [str(tmp_path / "shop.sqlite"), "../shop.sqlite", "link.sqlite", "/etc/passwd", "/"]
    for name in outside:
        for grader in (
            sql(name),
            {"type": "composite", "parts": [{"verifier": sql(name)}]},
            {"type": "composite", "gate": sql(name), "parts": [{"verifier": CHECK_SPEC}]},
            {"type": "multi", "graders": {"a": sql(name)}, "calculate_output": "a"},
        ):
            message = await refused(api, grader)
            assert "outside of the folder that STROP_DATABASES names" in message
            assert "42" not in message


CHECK_SPEC = {"kind": "text", "answer": "a"}


def test_without_a_folder_no_database_can_be_queried(tmp_path: Path) -> None:
    sql = {"kind": "sql", "database": str(tmp_path / "x"), "query": "SELECT 1"}
    with pytest.raises(InvalidRequest, match="STROP_DATABASES"):
        Judging(1, None).admitted(parse_spec(sql))


async def test_graders_want_a_key_and_a_well_formed_body(api: Api) -> None:
    async with httpx.AsyncClient(base_url=api.url) as client:
        for path in (RUN, VALIDATE):
            assert (await client.post(path, json={"grader": CHECK})).status_code == 401
    async with api.client() as client:
        for body in ({}, {"grader": "math"}, {"grader": CHECK}, {"grader": CHECK, "colour": 1}):
            response = await client.post(RUN, json=body)
            assert response.status_code == 422
            assert response.json()["error"]["type"] == "invalid_request_error"


async def test_killed_workers_are_replaced_and_verdicts_are_counted(api: Api) -> None:
    await run(api, CHECK, "Oslo", city="Oslo")
    (server,) = (
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
        and connection.laddr
        and connection.laddr.port == int(api.url.rpartition(":")[2])
    )
    assert server is not None
    for worker in psutil.Process(server).children():
        os.kill(worker.pid, signal.SIGKILL)
    done = await asyncio.gather(*(run(api, CHECK, "Oslo", city="Oslo") for _ in range(8)))
    assert [one["reward"] for one in done] == [1.0] * 8
    async with api.client() as client:
        lines = (await client.get("/metrics")).text.splitlines()
    assert 'strop_verdicts_total{kind="string_check",status="correct"} 9.0' in lines
    assert 'strop_verify_seconds_count{kind="string_check"} 9.0' in lines
    replaced = [line for line in lines if line.startswith('strop_verifier_replaced_total{what="w')]
    assert [float(line.split()[1]) > 0 for line in replaced] == [True]


async def test_openais_client_runs_and_validates_graders(api: Api) -> None:
    openai = pytest.importorskip("openai", reason="comes with vLLM")
    client = openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key=api.key, max_retries=0)
    graders = client.fine_tuning.alpha.graders
    done = await graders.run(grader=CHECK, model_sample="Oslo", item={"city": "Oslo"})
    assert (done.reward, done.metadata.errors.other_error) == (1.0, False)
    assert done.metadata.errors.api_model_grader_parse_error is False
    assert (await graders.validate(grader=CHECK)).grader.name == "city"
    with pytest.raises(openai.UnprocessableEntityError, match="no endpoint"):
        await graders.validate(
            grader={"type": "score_model", "name": "s", "model": "m", "input": ASKED}
        )
    await client.close()


@pytest.mark.parametrize(
    ("answer", "reward", "flags"),
    [
        ({"content": '{"steps": [], "result": 0.5}'}, 0.5, {}),
        ({"content": "Nice."}, None, {"model_grader_parse_error": True}),
        ({"content": None, "refusal": "No."}, None, {"model_grader_refusal_error": True}),
        (None, None, {"model_grader_server_error": True,
                      "model_grader_server_error_details": "status 404"}),
    ],
)  # fmt: skip
async def test_a_model_judges_where_the_operator_names_its_endpoint(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Any, reward: float | None,
    flags: dict[str, Any],
) -> None:  # fmt: skip
    """OpenAI's client, our application, workers behind their walls, and a server that they ask."""
    openai = pytest.importorskip("openai", reason="comes with vLLM")
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    chat = {"choices": [{"message": answer}], "usage": usage}
    grader = {"type": "score_model", "name": "s", "model": "judge", "input": ASKED}
    with asking(chat) as server:
        if answer is None:
            server.replies = [lambda handler: handler.say({}, 404)]
        monkeypatch.setenv("STROP_GRADER_MODEL_URL", f"http://127.0.0.1:{server.server_port}/v1")
        async with serving(store, home=tmp_path) as app:
            token = (await KeyStore(store.link).create("k", scopes=["verify"])).token
            async with client_of(app) as http:
                client = openai.AsyncOpenAI(
                    base_url="http://127.0.0.1/v1", api_key=token, max_retries=0, http_client=http
                )
                graders = client.fine_tuning.alpha.graders
                assert (await graders.validate(grader=grader)).grader.name == "s"
                done = await graders.run(grader=grader, model_sample="Oslo", item={"city": "Oslo"})
    assert done.reward == reward
    told = {**CLEAN, **flags}
    assert done.metadata.errors.model_dump(by_alias=True) == told
    if answer is not None:
        assert (done.metadata.token_usage, done.metadata.sampled_model_name) == (12, "judge")
        assert done.api_model_grader_token_usage_per_model == {"judge": usage}
