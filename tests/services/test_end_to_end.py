"""A job from HTTP to trained weights: real Valkey, Ray, vLLM and learner, a tiny random model."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.traces import read_step, step_paths
from tests.chaos.harness import damage
from tests.deploy.expressions import RULES, expressions, series
from tests.services.local_service import Up, running
from tests.services.prometheus_server import prometheus
from tests.services.running import api_server
from tests.tiny_model import make_tiny_model
from trainer.model_files import looks_like_model

JOBS = "/v1/fine_tuning/jobs"
HELLO: Any = [{"role": "user", "content": "hello"}]
SERVING = {"STROP_SERVE_KV_CACHE_GIB": "0.05", "STROP_SERVE_IDLE_SECONDS": "10"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    broken = tmp_path_factory.mktemp("broken")
    (broken / "wandb.py").write_text(
        "Settings = dict\ndef init(**_): raise ConnectionError('nobody is there')"
    )
    trackers = {"PYTHONPATH": str(broken), "WANDB_API_KEY": "of-nobody"}
    with running(tmp_path_factory.mktemp("home"), **SERVING, **trackers) as up:
        yield up


@pytest.fixture(scope="module")
def rest(service: Up) -> Iterator[httpx.Client]:
    key = Path(service.facts["api_key_file"]).read_text().strip()
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=service.facts["url"], headers=headers, timeout=120) as client:
        yield client


def write_tasks(path: Path, verifiers: Sequence[dict[str, Any]]) -> None:
    """A task for each of these verifiers; what the teacher may see is its number."""
    rows = [
        {
            "id": f"{path.stem}-{n}",
            "messages": [{"role": "user", "content": f"Say anything {n}."}],
            "verifier": verifier,
            "privileged": {"answer": str(n)},
        }
        for n, verifier in enumerate(verifiers)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A job of two steps; the judged letter is one a random byte model writes now and then."""
    folder = tmp_path_factory.mktemp("job")
    for name, count in (("train", 6), ("holdout", 2)):
        verifiers = [{"kind": "math", "answer": str(n)} for n in range(count)]
        write_tasks(folder / f"{name}.jsonl", verifiers)
    return {
        "name": "tiny",
        "steps": 2,
        "model": {
            "path": str(make_tiny_model(folder / "model")),
            "dtype": "float32",
            "max_length": 96,
        },
        "tasks": {"train": str(folder / "train.jsonl"), "holdout": str(folder / "holdout.jsonl")},
        "algorithm": {"kind": "rlsd", "teacher": "live"},
        "privileged": {"kind": "answer"},
        "sampling": {"group_size": 2, "groups_per_step": 2, "max_tokens": 8},
        "engine": {"kv_cache_gib": 0.05, "max_sequences": 8},
        "tiers": {tier: {"cpus": 0.5} for tier in ("rollout", "verifier", "teacher", "trainer")},
    }


def submit(rest: httpx.Client, spec: dict[str, Any]) -> str:
    answer = rest.post(JOBS, json={"method": {"type": "strop", "strop": spec}})
    assert answer.status_code in (200, 201), answer.text
    return answer.json()["id"]


def followed(rest: httpx.Client, job: str) -> Iterator[dict[str, Any]]:
    """The job's events as they are streamed, until the stream ends with the job."""
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "0"}
    with rest.stream("GET", f"{JOBS}/{job}/events", headers=headers) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def used_cpus(service: Up) -> float:
    """CPUs of the cluster that something holds, as Ray exports it every few seconds."""
    text = httpx.get(service.facts["engine_metrics_url"], timeout=30).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "ray_resources"
        and (sample.labels["Name"], sample.labels["State"]) == ("CPU", "USED")
    )


def await_cpus(service: Up, *, used: bool) -> None:
    deadline = time.monotonic() + 60
    while (used_cpus(service) > 0) is not used:
        assert time.monotonic() < deadline, f"{used_cpus(service)} CPUs are held"
        time.sleep(0.5)


@pytest.mark.timeout(600)
def test_a_job_over_http_trains_through_every_tier_and_is_paused_on_its_way(
    service: Up, rest: httpx.Client, spec: dict[str, Any]
) -> None:
    """While it is paused its newest checkpoint is damaged: it goes on from the one before."""
    tracking = [{"kind": "tensorboard"}, {"kind": "wandb", "project": "none"}]
    kept = {"every": 1, "keep": 2}
    job = submit(rest, {**spec, "steps": 6, "checkpoint": kept, "tracking": tracking})
    checkpoints = Path(service.facts["home"]) / "jobs" / job / "checkpoints"
    events: list[dict[str, Any]] = []
    statuses: list[str] = []
    for event in followed(rest, job):
        events.append(event)
        if event["data"].get("step") == 2 and event["data"]["kind"] == "step":
            assert rest.post(f"{JOBS}/{job}/pause").status_code == 200
        status = event["data"].get("status") if event["data"]["kind"] == "status" else None
        if status is None or status in statuses[-1:]:
            continue  # also told when something is asked of a job
        statuses.append(status)
        if status == "running":
            await_cpus(service, used=True)
        if status == "paused":
            await_cpus(service, used=False)
            damage(max(checkpoints.glob("step-*")) / "state.safetensors")
            assert rest.post(f"{JOBS}/{job}/resume").status_code == 200
    record = rest.get(f"{JOBS}/{job}").json()
    assert record["status"] == "succeeded", events[-1]
    assert statuses == ["queued", "running", "paused", "queued", "running", "succeeded"]
    messages = [event["message"] for event in events]
    assert any("is damaged and was set aside" in message for message in messages)
    # A tracker that fails is told of, and is all that fails.
    told = [message for message in messages if message.startswith("tracking: wandb")]
    assert told, "the failure is an event of the job"
    assert "ConnectionError: nobody is there" in told[0]
    folder = Path(service.facts["home"]) / "jobs" / job / "tracking" / "tensorboard"
    assert b"train/reward_mean" in b"".join(path.read_bytes() for path in folder.iterdir())

    data = [event["data"] for event in events]
    steps = [item for item in data if item["kind"] == "step"]
    assert [item["step"] for item in steps] == [1, 2, 3, 4, 5, 6]
    # After each step the engine's log-probs of the canary were the learner's own.
    assert all(item["canary_gap"] < 1e-3 for item in steps)
    # And what it sampled with was what the learner says of the same tokens.
    assert all(item["engine_mismatch"] < 1e-3 for item in steps)
    assert [item["step"] for item in data if item["kind"] == "evaluation"] == [0, 6]
    assert [event["id"] for event in events] == sorted(
        {event["id"] for event in events}, key=int
    ), "every event once, in order"

    assert looks_like_model(record["result"]["model"]) is None
    traces = [read_step(path) for path in step_paths(record["result"]["traces"])]
    assert [trace.step for trace in traces] == [0, 1, 2, 3, 4, 5]
    assert all(trace.teacher_logprobs is not None for trace in traces)
    # The prompts the tiers saw are the ones the file names, in the seed's order, once an epoch.
    seen = [group.task.id for trace in traces for group in trace.groups]
    assert len(set(seen[:6])) == 6


def test_metrics_of_the_service_and_of_vllm_can_be_scraped(service: Up, rest: httpx.Client) -> None:
    ours = rest.get("/metrics").text
    assert 'strop_jobs{status="succeeded"} 1.0' in ours
    assert 'strop_verdicts_total{kind="' in ours, "what the job's verifiers counted outlives it"
    deadline = time.monotonic() + 60  # Ray exports every few seconds
    while True:
        engines = httpx.get(service.facts["engine_metrics_url"], timeout=30).text
        if "vllm_generation_tokens" in engines or time.monotonic() > deadline:
            break
        time.sleep(1)
    assert "vllm_generation_tokens" in engines


def test_no_secret_is_in_logs_answers_command_lines_or_what_the_cluster_was_told(
    service: Up, rest: httpx.Client
) -> None:
    home = Path(service.facts["home"])
    hook = {
        "name": "h",
        "url": "https://93.184.215.14/",
        "event_types": ["fine_tuning.job.succeeded"],
    }
    hooked = rest.post("/v1/webhook_endpoints", json=hook).raise_for_status().json()
    made = rest.post("/v1/keys", json={"name": "planted"}).raise_for_status().json()
    secrets = {
        "store": (home / "valkey" / "url").read_text().partition("@")[0].rpartition(":")[2],
        "own key": Path(service.facts["api_key_file"]).read_text().strip().split("_")[2],
        "made key": made["api_key"].split("_")[2],
        "webhook": hooked["signing_secret"].removeprefix("whsec_"),
        "ray": (home / "ray_token").read_text().strip(),
    }
    assert all(len(secret) > 20 for secret in secrets.values())
    job = rest.get(JOBS).json()["data"][0]["id"]
    shown: dict[str, str] = {
        path: rest.get(path).raise_for_status().text
        for path in (
            JOBS, f"{JOBS}/{job}", f"{JOBS}/{job}/events?limit=100", "/v1/audit?limit=1000",
            "/v1/keys", "/v1/webhook_endpoints", "/v1/limits", "/metrics", "/openapi.json",
        )
    }  # fmt: skip
    sessions: set[Path] = set()
    for process in psutil.Process(service.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            line = process.cmdline()
            shown[f"command line of {process.pid}"] = " ".join(line)
            sessions |= {
                Path(part.partition("=")[2])
                for part in line
                if part.startswith(("--session-dir=", "--session_dir="))
            }
    assert sessions, "the cluster's own logs were found"
    # Ray keeps everything that a cluster shows of its actors in these files too.
    for folder in (home / "logs", *(session / "logs" for session in sessions)):
        for path in folder.rglob("*"):
            if path.is_file():
                shown[str(path)] = path.read_text(encoding="utf-8", errors="replace")
    found = [
        (name, where)
        for name, secret in secrets.items()
        for where in shown
        if secret in shown[where]
    ]
    assert found == []
    told = home / "store_url"
    assert secrets["store"] in told.read_text(), "the controller was told by a file"
    assert told.stat().st_mode & 0o777 == 0o600


TIERS = ("RolloutEngine", "VerifierTier", "VerifierPool", "Teacher", "RayTrainWorker",
         "EngineCore", "verifiers")  # fmt: skip


@pytest.mark.timeout(600)
def test_prometheus_finds_every_metric_and_a_cancelled_job_gives_everything_back(
    service: Up, rest: httpx.Client, spec: dict[str, Any], tmp_path: Path
) -> None:
    """What dashboards and alerts read; Debian's own, with the shipped configuration."""
    made = rest.post("/v1/keys", json={"name": "prometheus", "scopes": ["metrics:read"]})
    key, engines = made.raise_for_status().json()["api_key"], service.facts["engine_metrics_url"]
    with prometheus(tmp_path, service.facts["url"], engines, key) as client:

        def asked(path: str, **parameters: str) -> Any:
            answer = client.get(f"/api/v1/{path}", params=parameters).json()
            assert answer["status"] == "success", (parameters, answer)
            return answer["data"]

        # A random model writes one of the letters now and then, so that its steps learn something.
        letters = {"kind": "text", "regex": "(?s).*[a-m].*", "extract": {"kind": "text"}}
        write_tasks(tmp_path / "letters.jsonl", [letters] * 4)
        watched = {
            **spec,
            "name": "watched",
            "steps": 100_000,
            "tasks": {**spec["tasks"], "train": str(tmp_path / "letters.jsonl")},
            "sampling": {"group_size": 4, "groups_per_step": 4, "max_tokens": 8},
            "evaluation": {"every": 2},
            "checkpoint": {"every": 2},
        }
        job = submit(rest, watched)
        read = {name for text in expressions().values() for name in series(text)}
        assert len(read) > 60
        deadline = time.monotonic() + 240
        # vLLM exports a counter from its first increment on, and these engines have room enough.
        read.remove("ray_vllm_num_preemptions_total")
        while missing := read - set(asked("label/__name__/values")):
            assert time.monotonic() < deadline, sorted(missing)
            time.sleep(1)
        for place, text in expressions().items():
            chosen = re.sub(r"\$(job|kind)", ".*", text)
            assert isinstance(asked("query", query=chosen)["result"], list), place
        assert {one["health"] for one in asked("targets")["activeTargets"]} == {"up"}
        rules = [rule for group in asked("rules")["groups"] for rule in group["rules"]]
        assert {rule["name"] for rule in rules} == {rule["alert"] for rule in RULES}
        assert {rule["health"] for rule in rules} == {"ok"}

    assert f'job_id="{job}"' in rest.get("/metrics").text
    assert service.named(*TIERS), "the job's actors were seen while it ran"
    assert rest.post(f"{JOBS}/{job}/cancel").status_code == 200
    assert list(followed(rest, job))[-1]["data"]["status"] == "cancelled"
    assert f'job_id="{job}"' not in rest.get("/metrics").text, "its gauges went with it"
    deadline = time.monotonic() + 60
    while (left := service.named(*TIERS)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert left == []


@pytest.mark.timeout(300)
def test_a_job_that_cannot_run_fails_with_the_reason_before_any_actor_starts(
    rest: httpx.Client, spec: dict[str, Any]
) -> None:
    short = {**spec, "model": {**spec["model"], "max_length": 20}}
    job = submit(rest, short)
    events = list(followed(rest, job))
    record = rest.get(f"{JOBS}/{job}").json()
    assert record["status"] == "failed"
    assert "tasks.train: 6 of 6 prompts are longer than the 12 tokens" in record["error"]["message"]
    assert not [event for event in events if event["data"].get("phase") == "publish"]


@pytest.fixture(scope="module")
def client(service: Up) -> Iterator[openai.OpenAI]:
    key = Path(service.facts["api_key_file"]).read_text().strip()
    with openai.OpenAI(
        base_url=f"{service.facts['url']}/v1", api_key=key, max_retries=0, timeout=300
    ) as client:
        yield client


@pytest.fixture(scope="module")
def trained(client: openai.OpenAI) -> str:
    """The model of the newest job that succeeded, by its name."""
    return next(model.id for model in client.models.list() if model.id.startswith("ft:"))


SERVING_PROCESSES = ("ServeReplica", "ServeController", "ProxyActor", "VLLM")
"""What serves models: Serve's own processes and vLLM's."""


@pytest.mark.timeout(600)
def test_openais_client_talks_to_what_a_job_trained(client: openai.OpenAI, trained: str) -> None:
    chat = client.chat.completions.create(
        model=trained,
        messages=HELLO,
        max_completion_tokens=8,
        n=2,
        temperature=0.7,
        top_p=0.9,
        seed=3,
        logprobs=True,
        top_logprobs=2,
    )
    assert (chat.model, len(chat.choices)) == (trained, 2)
    assert chat.usage is not None
    assert chat.usage.completion_tokens <= 16
    assert chat.choices[0].logprobs is not None
    first = (chat.choices[0].logprobs.content or [])[0]
    assert (first.logprob <= 0, len(first.top_logprobs)) == (True, 2)

    text = client.completions.create(
        model=trained, prompt=["one", "two"], max_tokens=4, temperature=0, logprobs=1
    )
    assert [choice.index for choice in text.choices] == [0, 1]
    again = client.completions.create(model=trained, prompt="two", max_tokens=4, temperature=0)
    assert again.choices[0].text == text.choices[1].text


@pytest.mark.timeout(600)
def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI, trained: str) -> None:
    asked: dict[str, Any] = {"model": trained, "max_tokens": 12, "temperature": 0}
    whole = client.chat.completions.create(messages=HELLO, **asked)
    chunks = list(
        client.chat.completions.create(
            messages=HELLO, stream=True, stream_options={"include_usage": True}, **asked
        )
    )
    *pieces, last = chunks
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert text == whole.choices[0].message.content
    assert [piece.usage for piece in pieces] == [None] * len(pieces)
    assert last.usage is not None
    assert whole.usage is not None
    assert last.usage.completion_tokens == whole.usage.completion_tokens
    streamed = client.completions.create(prompt="one", stream=True, **asked)
    plain = client.completions.create(prompt="one", **asked)
    assert "".join(piece.choices[0].text for piece in streamed) == plain.choices[0].text


def test_an_answer_is_held_to_a_schema(client: openai.OpenAI, trained: str) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Oslo", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=trained,
        messages=HELLO,
        max_tokens=400,
        seed=1,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "place", "schema": schema, "strict": True},
        },
    )
    text = answer.choices[0].message.content or ""
    # A random model may spend its tokens on white space; a letter out of place it cannot write.
    assert "".join(text.split()) in [f'{{"city":"{city}"}}' for city in ("Oslo", "Rome")]


@pytest.mark.timeout(600)
def test_a_grader_asks_a_model_that_the_service_serves_itself(
    service: Up, client: openai.OpenAI, trained: str, tmp_path: Path
) -> None:
    """A second replica of the API asks the first, as an operator would set it up."""
    home = Path(service.facts["home"])
    settings = {
        "STROP_HOME": str(home),
        "STROP_REDIS_URL": (home / "store_url").read_text().strip(),
        "STROP_GRADER_MODEL_URL": f"{service.facts['url']}/v1",
        "STROP_GRADER_MODEL_KEY": client.api_key,
    }
    grader: Any = {
        "type": "label_model", "name": "l", "model": trained,
        "input": [{"role": "developer", "content": "Is it? {{ sample.output_text }}"}],
        "labels": ["yes", "no"], "passing_labels": ["yes"],
        "sampling_params": {"max_completions_tokens": 200, "seed": 1},
        "deadline_s": 120,  # it is evicted soon here, and then loaded first
    }  # fmt: skip
    with api_server(tmp_path / "log", **settings) as url:
        second = client.with_options(base_url=f"{url}/v1")
        done = second.fine_tuning.alpha.graders.run(grader=grader, model_sample="Oslo")
        assert not done.metadata.errors.api_model_grader_server_error, done.metadata
        shown = (tmp_path / "log").read_text() + done.model_dump_json()
    assert client.api_key not in shown
    metadata = done.metadata
    assert (metadata.sampled_model_name, (metadata.token_usage or 0) > 10) == (trained, True)
    # A random model may go on with its steps until its tokens end: that is its fault, told as such.
    unread = metadata.errors.api_model_grader_parse_error
    assert (done.reward in (0.0, 1.0)) is not unread
    assert not metadata.errors.other_error


def test_what_the_model_cannot_do_is_a_clear_error(client: openai.OpenAI, trained: str) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.chat.completions.create(model=trained, messages=HELLO, max_tokens=100_000)
    assert caught.value.param == "max_tokens"
    assert "100000" in caught.value.message


def test_served_tokens_are_counted(rest: httpx.Client, trained: str) -> None:
    metrics = rest.get("/metrics").text
    lines = [line for line in metrics.splitlines() if line.startswith("strop_served_tokens_total{")]
    for kind in ("prompt", "completion"):
        label = f'kind="{kind}",model="{trained}",tenant="default"'
        assert [line for line in lines if label in line and float(line.split()[-1]) > 0]
    assert 'strop_served_models{state="ready"} 1.0' in metrics


def test_nobody_passes_the_api_by(service: Up, trained: str) -> None:
    ports = {
        connection.laddr.port
        for process in service.named("ProxyActor")
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    answers: list[int] = []
    for port in ports:
        server = f"http://127.0.0.1:{port}"
        with suppress(httpx.TransportError):  # the other port is Ray's own, and no HTTP
            (route,) = httpx.get(f"{server}/-/routes", timeout=10).json()
            asked = {"model": trained, "messages": HELLO}
            url = f"{server}{route}/v1/chat/completions"
            answers.append(httpx.post(url, json=asked, timeout=10).status_code)
    assert answers == [401]


@pytest.mark.timeout(600)
def test_a_dead_engine_is_an_error_at_once_and_is_started_anew(
    service: Up, client: openai.OpenAI, trained: str
) -> None:
    (engine,) = service.named("VLLM::EngineCore")
    engine.kill()
    with pytest.raises(openai.InternalServerError) as caught:
        client.completions.create(model=trained, prompt="one", max_tokens=2)
    assert (caught.value.status_code, caught.value.code) == (503, "model_unavailable")
    patient = client.with_options(max_retries=60)
    assert patient.completions.create(model=trained, prompt="one", max_tokens=2).choices


@pytest.mark.timeout(300)
def test_a_model_nobody_uses_gives_everything_back(service: Up) -> None:
    deadline = time.monotonic() + 120
    while (left := service.named(*SERVING_PROCESSES)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert left == []


def test_a_service_that_loads_a_model_leaves_nothing_behind(
    service: Up, client: openai.OpenAI, trained: str
) -> None:
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(client.completions.create, model=trained, prompt="one")
        deadline = time.monotonic() + 60
        while not (loading := service.named(*SERVING_PROCESSES)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert loading
        service.process.terminate()
        assert service.process.wait(120) == 0
        with pytest.raises(openai.APIError):
            asked.result(120)
    service.assert_gone()
    _, alive = psutil.wait_procs(loading, timeout=10)
    assert alive == []
