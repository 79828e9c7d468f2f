"""The report: numbers from events, a self-contained page, tokens coloured by credit."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from services.report import Digest, digest, duration, terminal
from services.report_page import page, write_page
from services.report_rollouts import Example, examples
from services.traces import StepTrace, write_job, write_step
from trainer.batch import learnable
from trainer.records import Group, Privileged, Rollout, Task
from verifiers.verdict import Verdict

EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>"\'&'
GAIN = {"difference": 0.15, "low": 0.08, "high": 0.22, "n": 240}
JOB: dict[str, Any] = {
    "id": "ftjob-1",
    "status": "succeeded",
    "model": "smollm2-135m-instruct",
    "started_at": 1000,
    "finished_at": 1423,
    "seed": 0,
    "spec": {"name": "quickstart", "algorithm": {"kind": "rlsd"}},
}


def step_event(step: int, reward: float = 0.25) -> dict[str, Any]:
    phases = {"rollout": 10.0, "verify": 0.5, "score": 4.0, "learn": 8.0, "publish": 1.5}
    return {
        "data": {
            "kind": "step",
            "step": step,
            "steps": 12,
            "reward_mean": reward,
            "rewards": {"math": reward - 0.05, "schema": reward + 0.1},
            "completion_tokens": 2000,
            "tokens_per_s": 200.0,
            "phase_seconds": phases,
        }
    }


def evaluation_event(step: int, math: int, schema: int) -> dict[str, Any]:
    def measured(right: int, n: int) -> dict[str, Any]:
        return {"accuracy": right / n, "low": right / n - 0.05, "high": right / n + 0.05, "n": n}

    by_verifier = {"math": measured(math, 160), "schema": measured(schema, 80)}
    data = {"kind": "evaluation", "step": step, **measured(math + schema, 240)}
    return {"data": {**data, "by_verifier": by_verifier}}


def phase_event(phase: str, at: int) -> dict[str, Any]:
    return {"created_at": at, "data": {"kind": "phase", "phase": phase, "step": 0}}


EVENTS = [
    {"data": {"kind": "status"}},
    phase_event("start", 1000),
    phase_event("evaluate", 1030),
    evaluation_event(0, 40, 20),
    phase_event("rollout", 1042),
    *[step_event(n, 0.2 + 0.02 * n) for n in range(1, 13)],
    phase_event("learn", 1300),
    phase_event("evaluate", 1400),
    evaluation_event(12, 60, 36),
    phase_event("finish", 1420),
    {"data": {"kind": "result", "model": "/data/model", "traces": "/data/traces", "gain": GAIN}},
]


def printed(report: Digest) -> str:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal(report))
    return console.export_text()


def test_the_digest_sums_up_time_and_speed() -> None:
    report = digest(JOB, EVENTS)
    assert len(report.steps) == 12
    assert report.phase_seconds == {
        "start": 30.0,
        "evaluate": 32.0,
        "rollout": 120.0,
        "verify": 6.0,
        "score": 48.0,
        "learn": 96.0,
        "publish": 18.0,
    }
    assert report.tokens_per_s == 200.0
    assert report.seconds == 423.0


def test_accuracy_is_before_and_after_in_all_and_by_verifier() -> None:
    report = digest(JOB, EVENTS)
    assert [row.verifier for row in report.accuracies] == ["all", "math", "schema"]
    rows = {row.verifier: row for row in report.accuracies}
    assert rows["all"].before.accuracy == 0.25
    assert rows["all"].gain == GAIN
    math = rows["math"]
    assert math.after is not None
    assert math.gain is not None
    assert (math.before.accuracy, math.after.accuracy) == (0.25, 0.375)
    assert math.gain["difference"] == pytest.approx(0.125)
    assert math.gain["low"] < 0.125 < math.gain["high"]


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        ((0.15, 0.08, 0.22), "rose by +15.0 [+8.0, +22.0] points on 240 held-out tasks, beyond"),
        ((-0.1, -0.2, -0.01), "fell by -10.0"),
        ((0.05, -0.01, 0.1), "no more than chance explains"),
    ],
)
def test_the_verdict_claims_only_what_the_interval_allows(
    gain: tuple[float, float, float], words: str
) -> None:
    difference, low, high = gain
    told = {"difference": difference, "low": low, "high": high, "n": 240}
    result = {"data": {"kind": "result", "gain": told}}
    assert words in digest(JOB, [*EVENTS[:-1], result]).verdict


def test_a_step_told_again_after_a_resume_counts_once() -> None:
    report = digest(JOB, [*EVENTS, step_event(3, 0.9)])
    assert len(report.steps) == 12
    assert report.steps[2]["reward_mean"] == 0.9


def test_the_terminal_shows_accuracy_reward_phases_and_speed() -> None:
    text = printed(digest(JOB, EVENTS))
    assert "25.0 % (20.0 to 30.0)" in text
    assert "+15.0 (+8.0 to +22.0)" in text
    assert "schema" in text
    assert re.search(r"rollout\s+│\s+120\.0\s+│\s+34 %", text)
    assert "200 completion tokens/s" in text
    assert "rose by" in text


@pytest.mark.parametrize("events", [[], EVENTS[:4], EVENTS[4:8]])
def test_a_job_that_ended_early_still_has_a_report(events: list[dict[str, Any]]) -> None:
    report = digest({**JOB, "finished_at": None}, events)
    assert "not measured" in printed(report)
    assert "not measured" in page(report, [])


def test_names_with_markup_stay_text_in_the_terminal() -> None:
    event = evaluation_event(0, 40, 20)
    event["data"]["by_verifier"] = {"[red]x[/]": event["data"]["by_verifier"]["math"]}
    assert "[red]x[/]" in printed(digest(JOB, [event]))


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.24, "4.2 s"), (423, "7 min 03 s"), (7380, "2 h 03 min")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


PIECES = ["9", " x", " 4", " =", " 36", EVIL, "\n"]


def decode(ids: Any) -> list[str]:
    return [PIECES[i] for i in ids]


def group(name: str, kind: str, hint: str = "9 x 4 = 36.") -> Group:
    def rollout() -> Rollout:
        ids = np.arange(len(PIECES), dtype=np.int32)
        return Rollout(ids[:2], ids, np.zeros(len(ids), np.float32), "", 0, "stop")

    return Group(
        task=Task(
            name,
            ({"role": "user", "content": f"What is 9 x 4? {EVIL}"},),
            {"kind": kind},
            Privileged(trace=hint),
        ),
        rollouts=(rollout(), rollout(), rollout()),
        verdicts=(Verdict(1.0, "correct"), Verdict(0.0, "wrong"), Verdict(None, "infra_error")),
        advantages=np.array([1.0, -1.0, np.nan], np.float32),
    )


def traced(folder: Path, *steps: tuple[Group, ...], spread: float = 0.2) -> Path:
    write_job(folder, {"privileged": {"kind": "trace", "template": "Look: {{ trace }}"}})
    rng = np.random.default_rng(0)
    for number, groups in enumerate(steps):
        where = learnable(groups)
        signs = np.repeat([groups[g].advantages[r] for g, r in where], len(PIECES))
        teacher, student = -rng.random((2, len(signs))).astype(np.float32)
        weights = (1 + spread * rng.uniform(-1, 1, len(signs))).astype(np.float32)
        write_step(
            folder,
            StepTrace(
                number,
                groups,
                teacher_logprobs=teacher,
                student_logprobs=student,
                credit=signs * weights,
            ),
        )
    return folder


def test_a_right_and_a_wrong_rollout_of_different_tasks_are_shown(tmp_path: Path) -> None:
    folder = traced(tmp_path, (group("a", "math"), group("b", "schema")), (group("c", "math"),))
    found = examples(folder, decode)
    assert [example.right for example in found[:2]] == [True, False]
    assert len({example.task_id for example in found}) == 3
    assert {example.verifier for example in found} == {"math", "schema"}
    assert found[0].privileged == "Look: 9 x 4 = 36."
    token = found[0].tokens[4]
    assert token.text == " 36"
    assert token.credit == pytest.approx(token.weight * found[0].advantage)
    assert token.evidence is not None
    assert token.teacher is not None
    assert token.student is not None
    assert token.evidence == pytest.approx(token.teacher - token.student)


def test_the_rollouts_shown_are_those_evidence_moved_most(tmp_path: Path) -> None:
    traced(tmp_path, (group("flat", "math"),), spread=0.0)
    steep = traced(tmp_path / "other", (group("steep", "math"),), spread=0.5)
    (steep / "step-000000.parquet").rename(tmp_path / "step-000001.parquet")
    assert examples(tmp_path, decode)[0].task_id == "steep"


def test_a_trace_without_credit_has_no_examples(tmp_path: Path) -> None:
    write_job(tmp_path, {"privileged": None})
    write_step(tmp_path, StepTrace(0, (group("a", "math"),)))
    assert examples(tmp_path, decode) == []


class Tags(HTMLParser):
    """Every tag with its attributes, and the text outside of styles."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture
def shown(tmp_path: Path) -> list[Example]:
    return examples(traced(tmp_path, (group("a", EVIL), group("b", "math", EVIL))), decode)


def test_the_page_loads_nothing_and_runs_nothing(shown: list[Example]) -> None:
    evil_job = {**JOB, "model": EVIL, "id": EVIL}
    events = [*EVENTS, {"data": {"kind": "result", "model": EVIL, "traces": EVIL, "gain": GAIN}}]
    text = page(digest(evil_job, events), shown)
    tags = Tags()
    tags.feed(text)
    names = {name for name, _ in tags.tags}
    assert not names & {"script", "img", "link", "iframe", "object", "embed", "form", "base"}
    for _, attributes in tags.tags:
        assert not {name for name in attributes if name.startswith("on")}
        assert not {"src", "href", "srcset", "action"} & set(attributes)
    assert "url(" not in text
    assert "@import" not in text
    assert "".join(tags.texts).count("<script>") >= 4
    assert len(text) < 100_000


def test_every_token_says_what_it_was_worth(shown: list[Example]) -> None:
    tags = Tags()
    tags.feed(page(digest(JOB, EVENTS), shown))
    spans = [a for name, a in tags.tags if name == "span" and "data-worth" in a]
    assert len(spans) == sum(len(example.tokens) for example in shown)
    for attributes, token in zip(spans, [t for e in shown for t in e.tokens], strict=True):
        told = attributes["data-worth"] or ""
        assert f"credit {token.credit:+.3f}" in told
        assert f"teacher {token.teacher:.3f}, student {token.student:.3f}" in told
    shades = [float((a["style"] or "").removeprefix("--much: ")) for a in spans]
    assert 0 <= min(shades) < max(shades) <= 1


def test_the_heaviest_token_has_the_strongest_colour(shown: list[Example]) -> None:
    tags = Tags()
    tags.feed(page(digest(JOB, EVENTS), shown[:1]))
    spans = [a for name, a in tags.tags if name == "span" and "data-worth" in a]
    shades = [float((a["style"] or "").removeprefix("--much: ")) for a in spans]
    weights = [token.weight for token in shown[0].tokens]
    assert int(np.argmax(shades)) == int(np.argmax(weights))
    assert int(np.argmin(shades)) == int(np.argmin(weights))


def test_the_curve_has_every_step_and_both_evaluations() -> None:
    text = page(digest(JOB, EVENTS), [])
    assert text.count("mean reward 0.") == 12
    assert text.count("held-out accuracy after") == 2
    assert "held-out accuracy after 12 steps: 40.0 %, 95 % interval 35.0 to 45.0 %" in text


def luminance(colour: tuple[float, ...]) -> float:
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_is_readable_on_every_colour_in_light_and_dark() -> None:
    """WCAG AA: 4.5 to 1 for text, whatever a token's shade."""
    light, dark = page(digest(JOB, EVENTS), []).split("prefers-color-scheme: dark", 1)
    for theme in (light, dark.split("* {", 1)[0]):
        named = dict(re.findall(r"--([a-z0-9-]+):\s*([^;]+);", theme))

        def rgb(name: str, named: dict[str, str] = named) -> tuple[float, ...]:
            value = named[name].strip()
            if value.startswith("#"):
                return tuple(int(value[i : i + 2], 16) / 255 for i in (1, 3, 5))
            return tuple(int(part) / 255 for part in value.split(","))

        for text in ("ink", "soft", "up", "flat", "line-1", "line-2", "line-3", "line-4"):
            assert contrast(rgb(text), rgb("card")) >= 4.5, text
            assert contrast(rgb(text), rgb("paper")) >= 4.5, text
        for tint in ("praise", "blame"):
            assert contrast(rgb("ink"), rgb(tint)) >= 4.5, tint


def test_the_page_is_written_whole(tmp_path: Path) -> None:
    path = write_page(tmp_path / "out" / "report.html", digest(JOB, EVENTS), [])
    assert path.read_text(encoding="utf-8").endswith("</html>")
    assert list(path.parent.iterdir()) == [path]
