"""Graders that ask a model: held to a form, bounded, never a false zero."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.verifiers.answering_server import Server, serving
from verifiers.judge import judge
from verifiers.openai_graders import asks_a_model, check_grader, spec_of
from verifiers.pool import WorkerPool
from verifiers.spec import SpecError, dump_spec, parse_spec
from verifiers.verdict import Verdict

INPUT = [
    {"role": "developer", "content": "Grade what follows."},
    {"role": "user", "content": "{{item.question}} They said: {{ sample.output_text }}"},
]
SCORE: dict[str, Any] = {"type": "score_model", "name": "s", "model": "judge-1", "input": INPUT}
LABEL: dict[str, Any] = {
    "type": "label_model", "name": "l", "model": "judge-2", "input": INPUT,
    "labels": ["good", "fair", "bad"], "passing_labels": ["good", "fair"],
}  # fmt: skip
STEP = {"description": "Is it so?", "conclusion": "Half."}


def chat(said: Any, **message: Any) -> dict[str, Any]:
    """A chat completion of a model that wrote this."""
    content = said if isinstance(said, str) or said is None else json.dumps(said)
    return {
        "choices": [{"finish_reason": "stop", "message": {"content": content, **message}}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
    }


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(chat({"steps": [STEP], "result": 0.5})) as server:
        monkeypatch.setenv("STROP_GRADER_MODEL_URL", f"http://127.0.0.1:{server.server_port}/v1/")
        monkeypatch.setenv("STROP_GRADER_MODEL_KEY", "the key")
        yield server


def graded(grader: dict[str, Any], said: str = "Oslo", **item: Any) -> Verdict:
    check_grader(grader)
    spec = spec_of(grader, {"question": "Where?", **item})
    assert parse_spec(dump_spec(spec)) == spec, "it travels to a worker as plain data"
    return judge(spec, said)


def test_the_model_is_asked_in_openais_dialect_and_its_score_is_the_verdict(server: Server):
    sampling = {"temperature": 0.2, "seed": 7, "max_completions_tokens": 300}
    verdict = graded({**SCORE, "sampling_params": sampling}, "<think>hm</think>\nOslo")
    assert (verdict.score, verdict.status) == (0.5, "wrong")
    assert verdict.evidence["model"] == "judge-1"
    assert verdict.evidence["tokens"]["total_tokens"] == 25
    assert "Half." in verdict.evidence["said"]
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["Authorization"] == "Bearer the key"
    asked = json.loads(request.body)
    assert asked["messages"] == [
        {"role": "system", "content": "Grade what follows."},
        {"role": "user", "content": "Where? They said: Oslo"},
    ]
    assert {key: asked[key] for key in ("model", "temperature", "seed")} == {
        "model": "judge-1", "temperature": 0.2, "seed": 7,
    }  # fmt: skip
    assert asked["max_completion_tokens"] == 300
    form = asked["response_format"]["json_schema"]
    assert form["strict"] is True
    assert form["schema"]["properties"]["result"]["maximum"] == 1.0


@pytest.mark.parametrize(
    ("result", "score", "status"), [(0, 0.25, "wrong"), (3, 1.0, "correct"), (2, 0.75, "correct")]
)
def test_a_range_becomes_zero_to_one(server: Server, result: float, score: float, status: str):
    server.replies = [lambda handler: handler.say(chat({"steps": [], "result": result}))]
    verdict = graded({**SCORE, "range": [-1, 3], "pass_threshold": 0.75})
    assert (verdict.score, verdict.status) == (score, status)


@pytest.mark.parametrize(("label", "score"), [("good", 1.0), ("fair", 1.0), ("bad", 0.0)])
def test_a_label_passes_or_does_not(server: Server, label: str, score: float):
    server.replies = [lambda handler: handler.say(chat({"steps": [], "label": label}))]
    verdict = graded(LABEL)
    assert (verdict.score, verdict.status) == (score, "correct" if score else "wrong")
    schema = json.loads(server.requests[0].body)["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["label"]["enum"] == ["good", "fair", "bad"]


def test_what_a_completion_says_is_text_and_no_template(server: Server):
    graded(SCORE, "{{item.question}} and {{ sample.output_text }}")
    said = json.loads(server.requests[0].body)["messages"][1]["content"]
    assert said == "Where? They said: {{item.question}} and {{ sample.output_text }}"


@pytest.mark.parametrize(
    ("answer", "fault", "says"),
    [
        (chat("I like it"), "parse", "not JSON"),
        (chat({"steps": []}), "parse", "`result`"),
        (chat({"result": True}), "parse", "`result`"),
        (chat({"result": "1"}), "parse", "`result`"),
        (chat({"result": 1.5}), "parse", "outside of"),
        (chat('{"result": NaN}'), "parse", "not JSON"),
        (chat('{"result": 1, "result": 0}'), "parse", "stands twice"),
        (chat(None), "parse", "without a text"),
        ({"choices": []}, "parse", "without a text"),
        ({}, "parse", "without a text"),
        (chat(None, refusal="I would rather not."), "refusal", "rather not"),
        (b"<html>", "server", "no JSON"),
        (b" " * 300_000, "server", "more than"),
    ],
)  # fmt: skip
def test_a_model_that_gives_no_verdict_is_never_a_score(
    server: Server, answer: Any, fault: str, says: str
):
    server.replies = [lambda handler: handler.say(answer)]
    verdict = graded(SCORE)
    assert (verdict.score, verdict.status) == (None, "infra_error")
    assert verdict.evidence["fault"] == fault
    assert says in verdict.evidence["reason"]
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_again_when_it_wants_to_be(server: Server):
    server.replies = [
        lambda handler: handler.say({}, 429, **{"Retry-After": "1"}),
        lambda handler: handler.say({}, 503),
        lambda handler: handler.say(chat({"steps": [], "result": 1})),
    ]
    started = time.monotonic()
    assert graded(SCORE).status == "correct"
    assert 1.0 <= time.monotonic() - started < 10
    server.replies = [lambda handler: handler.say({}, 429, **{"Retry-After": "3600"})]
    verdict = graded({**SCORE, "deadline_s": 2})
    assert (verdict.score, verdict.evidence["fault"]) == (None, "server")
    assert verdict.evidence["reason"] == "status 429 (attempt 1)"


@pytest.mark.parametrize("status", [422, 503])
def test_what_the_endpoint_says_of_its_refusal_is_told_without_the_key(server: Server, status: int):
    error = {"message": "model: no model 'judge-1' for the key", "type": "invalid_request_error"}
    server.replies = [lambda handler: handler.say({"error": error}, status)]
    verdict = graded({**SCORE, "retries": 0})
    assert (verdict.score, verdict.evidence["fault"]) == (None, "server")
    assert verdict.evidence["reason"].startswith(f"status {status}")
    assert verdict.evidence["reason"].endswith(": model: no model 'judge-1' for ...")


def test_a_redirect_is_not_followed_and_the_deadline_holds(server: Server):
    server.replies = [lambda handler: handler.say({}, 302, Location="http://127.0.0.1:1/")]
    assert "redirects are not followed" in graded(SCORE).evidence["reason"]
    server.replies = [lambda handler: time.sleep(2)]
    started = time.monotonic()
    verdict = graded({**SCORE, "deadline_s": 0.3})
    assert "deadline" in verdict.evidence["reason"]
    assert time.monotonic() - started < 2


def test_a_sample_that_lacks_what_is_asked_about_is_malformed(server: Server):
    about = [{"role": "user", "content": "Is it one? {{ sample.output_json.city }}"}]
    verdict = graded({**SCORE, "input": about}, "no JSON")
    assert (verdict.score, verdict.status) == (0.0, "malformed")
    assert server.requests == []


def test_workers_behind_their_walls_ask_too_and_multi_counts_what_it_took(server: Server):
    del server
    both = {
        "type": "multi", "name": "m", "calculate_output": "(s + c) / 2",
        "graders": {"s": SCORE, "c": {"kind": "text", "answer": "Oslo"}},
    }  # fmt: skip
    assert asks_a_model(both)
    assert not asks_a_model({"type": "math", "answer": "{{item.gold}}"})
    with WorkerPool(1) as pool:
        verdict = pool.judge(spec_of(both, {"question": "Where?"}), "Oslo")
    assert verdict.score == 0.75, verdict.evidence
    assert verdict.evidence["parts"][0] == {
        "part": "s", "score": 0.5, "status": "wrong", "model": "judge-1",
        "tokens": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
    }  # fmt: skip


@pytest.mark.parametrize("url", [None, "", "ftp://x/v1", "models", "http://", "http://x/ y", "http://x:99999/v1"])  # fmt: skip
def test_without_an_endpoint_there_is_no_score_and_the_reason_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, url: str | None
):
    monkeypatch.delenv("STROP_GRADER_MODEL_URL", raising=False)
    if url is not None:
        monkeypatch.setenv("STROP_GRADER_MODEL_URL", url)
    verdict = graded(SCORE)
    assert (verdict.score, verdict.status) == (None, "infra_error")
    assert "STROP_GRADER_MODEL_URL" in verdict.evidence["reason"]


def changed(grader: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {name: value for name, value in {**grader, **fields}.items() if value != ...}


@pytest.mark.parametrize(
    ("grader", "says"),
    [
        (changed(SCORE, model=...), "model: Field required"),
        (changed(SCORE, input=[]), "input"),
        (changed(SCORE, input="{{sample.output_text}}"), "input"),
        (changed(SCORE, input=[{"role": "user", "content": "Grade it."}]), "looks at the sample"),
        (changed(SCORE, input=[{"role": "tool", "content": "x"}]), "role"),
        (changed(SCORE, range=[1, 0]), "lowest and a highest"),
        (changed(SCORE, range=[0]), "range"),
        (changed(SCORE, url="http://169.254.169.254/"), "url: is no field"),
        (changed(SCORE, sampling_params={"best_of": 2}), "best_of"),
        (changed(SCORE, input=[{"role": "user", "content": {
            "type": "input_image", "image_url": "http://169.254.169.254/"}}]), "text alone"),
        (changed(SCORE, input=[{"role": "user", "content": [
            {"type": "input_audio", "input_audio": {}}]}]), "text alone"),
        (changed(LABEL, passing_labels=["great"]), "'great' is none of the labels"),
        (changed(LABEL, passing_labels=["good", "fair", "bad"]), "nothing could fail"),
        (changed(LABEL, labels=["good", "good"]), "twice"),
        (changed(LABEL, range=[0, 1]), "range: is no field"),
    ],
)  # fmt: skip
def test_a_grader_that_cannot_be_used_is_refused(grader: dict[str, Any], says: str):
    with pytest.raises(SpecError, match=says):
        check_grader(grader)


def test_parts_of_text_are_one_text():
    parts = [{"type": "input_text", "text": "Grade"}, "{{ sample.output_text }}"]
    spec = spec_of({**SCORE, "input": [{"role": "user", "content": parts, "type": "message"}]}, {})
    assert dump_spec(spec)["input"][0]["content"] == "Grade\n{{ sample.output_text }}"
