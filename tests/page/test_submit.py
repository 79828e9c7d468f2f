"""The form of a new job: checked while it is written, tried without starting anything, queued."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.page.seen import Seen
from tests.tiny_model import make_tiny_model

STRUCK = "<img src=x onerror=window.struck=1>"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


def tasks(count: int, name: str = "sum") -> bytes:
    """A file of tasks as a user would send it; its texts are nobody's friends."""
    rows: list[dict[str, Any]] = [
        {
            "id": f"{name}-{at}",
            "messages": [{"role": "user", "content": f"{at} + 1 = ? {STRUCK}"}],
            "verifier": {"kind": "math", "answer": str(at + 1)},
            "privileged": {"answer": str(at + 1), "trace": f"One more than {at}."},
        }
        for at in range(count)
    ]
    return "\n".join(json.dumps(row) for row in rows).encode()


def send_file(page: Page, field: str, name: str, data: bytes) -> None:
    file = {"name": name, "mimeType": "application/jsonl", "buffer": data}
    chooser = page.locator(".field", has=page.get_by_label(field, exact=True))
    chooser.locator("input[type=file]").set_input_files([file])  # pyright: ignore[reportArgumentType]


def test_a_new_job_is_checked_against_the_schema_while_it_is_written(seen: Seen) -> None:
    page = seen.open("#/jobs/new")
    page.get_by_role("button", name="Queue the job").click()
    expect(page.get_by_role("alert")).to_contain_text("model.path is required")
    size = page.get_by_label("group size")
    size.fill("0")
    size.press("Tab")
    expect(page.get_by_text("must be at least 1").first).to_be_visible()
    expect(size).to_have_attribute("aria-invalid", "true")
    seen.shot("submit")
    assert seen.barriers() == []


def test_what_the_service_refuses_stands_at_the_field(seen: Seen) -> None:
    seen.allowed = ["422"]
    page = seen.open("#/jobs/new")
    page.get_by_label("Model", exact=True).fill("smollm2-135m-instruct")
    page.get_by_label("Training tasks", exact=True).fill("/nowhere/tasks.jsonl")
    page.get_by_role("button", name="Queue the job").click()
    expect(page.get_by_role("alert")).to_contain_text("/nowhere/tasks.jsonl")


def test_sent_files_are_tried_without_starting_anything(seen: Seen, model: Path) -> None:
    page = seen.open("#/jobs/new")
    page.get_by_label("Model", exact=True).fill(str(model))
    send_file(page, "Training tasks", "train.jsonl", tasks(3))
    train = page.get_by_label("Training tasks", exact=True)
    expect(train).to_have_value(re.compile("^file-"))
    send_file(page, "Held-out tasks", "holdout.jsonl", tasks(2, "held"))
    expect(page.get_by_label("Held-out tasks", exact=True)).to_have_value(re.compile("^file-"))
    page.get_by_label("name", exact=True).fill("from-the-form")
    page.get_by_label("name", exact=True).press("Tab")
    page.get_by_role("button", name="Dry run").click()
    report = page.locator(".report")
    expect(report).to_contain_text("this job can be queued")
    expect(report.locator(".reading", has_text="Tasks")).to_contain_text("2 held out")
    for tier in ("rollout", "teacher", "trainer", "verifier"):
        expect(report.get_by_role("row", name=re.compile(f"^{tier} "))).to_be_visible()
    report.get_by_text("sum-", exact=False).first.click()
    expect(report.locator(".laid-privileged").first).to_contain_text("One more than")
    expect(report.locator(".laid").first).to_contain_text(STRUCK)
    assert page.evaluate("window.struck") is None
    seen.shot("dry-run")
    assert seen.barriers() == []
    page.goto(f"{seen.site.url}/#/jobs?status=queued")
    expect(page.get_by_role("link", name="from-the-form")).to_have_count(0)
    page.go_back()
    expect(page.get_by_role("heading", name="New job")).to_be_visible()


def test_a_report_goes_when_the_job_changes_and_the_job_is_queued(seen: Seen, model: Path) -> None:
    page = seen.open("#/jobs/new")
    page.get_by_label("Model", exact=True).fill(str(model))
    send_file(page, "Training tasks", "train.jsonl", tasks(2))
    expect(page.get_by_label("Training tasks", exact=True)).to_have_value(re.compile("^file-"))
    page.get_by_role("button", name="Dry run").click()
    expect(page.locator(".report")).to_be_visible()
    page.get_by_label("steps", exact=True).fill("7")
    page.get_by_label("steps", exact=True).press("Tab")
    expect(page.locator(".report")).to_have_count(0)
    page.get_by_role("button", name="Queue the job").click()
    expect(page).to_have_url(re.compile("#/jobs/ftjob-"))
    expect(page.locator(".status-queued")).to_be_visible()
    expect(page.locator(".reading", has_text="Steps")).to_contain_text("0 of 7")


def test_what_is_wrong_in_a_sent_file_stands_at_its_field(seen: Seen, model: Path) -> None:
    seen.allowed = ["400", "422"]
    page = seen.open("#/jobs/new")
    page.get_by_label("Model", exact=True).fill(str(model))
    send_file(page, "Training tasks", "tasks.jsonl", b'{"id": "a", "messages": []}')
    expect(page.get_by_label("Training tasks", exact=True)).to_have_value(re.compile("^file-"))
    page.get_by_role("button", name="Dry run").click()
    problem = page.locator(".field", has=page.get_by_label("Training tasks", exact=True))
    expect(problem.locator(".field-problem")).to_contain_text("line 1")
    expect(page.locator(".report")).to_have_count(0)


def test_the_spec_is_written_as_json_and_comes_back_to_the_form(seen: Seen) -> None:
    page = seen.open(f"#/jobs/new?from={seen.site.finished}")
    expect(page.get_by_label("Model", exact=True)).to_have_value("smollm2-135m-instruct")
    page.get_by_role("button", name="Edit as JSON").click()
    editor = page.get_by_label("Job spec")
    spec = json.loads(editor.input_value())
    assert spec["steps"] == 12
    editor.fill("{")
    expect(page.locator(".field-problem")).to_be_visible()
    editor.fill(json.dumps(spec | {"steps": 31}))
    page.get_by_role("button", name="Edit as JSON").click()
    expect(page.get_by_label("steps", exact=True)).to_have_value("31")
