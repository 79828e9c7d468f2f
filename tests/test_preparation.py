"""What is found before an actor starts: refused by name and count, or told in the notes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.config import JobSpec
from services.job_files import load_job
from services.preparation import JobRefused, prepare
from tests.tiny_model import make_tiny_model
from trainer.dataset import TaskFileError
from trainer.documents import LibraryError
from trainer.templates import PrivilegedError

Job = Callable[..., JobSpec]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


def row(name: str, question: str = "3 x 4?", **privileged: Any) -> dict[str, Any]:
    verifier = {"kind": "math", "answer": "12"}
    return {"id": name, "prompt": question, "verifier": verifier, "privileged": privileged}


@pytest.fixture
def job(model: Path, tmp_path: Path) -> Job:
    def make(*rows: dict[str, Any], **changes: Any) -> JobSpec:
        (tmp_path / "train.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
        data: dict[str, Any] = {
            "model": {"path": str(model), "max_length": 400},
            "tasks": {"train": "train.jsonl", **changes.pop("tasks", {})},
            "sampling": {"max_tokens": 100},
            **changes,
        }
        (tmp_path / "job.yaml").write_text(json.dumps(data))
        return load_job(tmp_path / "job.yaml")

    return make


def test_a_job_that_can_run_has_its_prompts_and_no_notes(job: Job) -> None:
    ready = prepare(job(row("a", trace="3 x 4 = 12"), row("b", trace="12")))
    assert [task.id for task in ready.tasks] == ["a", "b"]
    assert set(ready.prompts) == {"a", "b"}
    assert ready.notes == []


def test_tasks_without_what_their_teacher_reads_are_named_and_counted(job: Job) -> None:
    with pytest.raises(TaskFileError, match="2 problem") as refused:
        prepare(job(row("a", trace="12"), row("b"), row("c", answer="12")))
    assert [p.field for p in refused.value.problems] == ["privileged.trace"] * 2
    assert "'b'" in str(refused.value)
    assert "'c'" in str(refused.value)


def test_a_template_with_an_unknown_field_is_refused(job: Job) -> None:
    view = {"kind": "trace", "template": "{{ trase }}"}
    with pytest.raises(PrivilegedError, match=r"names trase; with privileged.kind trace"):
        prepare(job(row("a", trace="12"), privileged=view))


def test_context_that_does_not_fit_is_refused_dropped_or_shortened_and_counted(job: Job) -> None:
    rows = [row("short", trace="12"), row("long", trace="x" * 500)]
    with pytest.raises(JobRefused, match=r"context of 1 of 2 tasks does not fit the 300 .*'long'"):
        prepare(job(*rows))
    dropped = prepare(job(*rows, tasks={"overlong": "drop"}))
    assert [task.id for task in dropped.tasks] == ["short"]
    assert "1 of 2 tasks does not fit" in dropped.notes[0]
    shortened = prepare(job(*rows, tasks={"overlong": "shorten"}))
    assert [task.id for task in shortened.tasks] == ["short", "long"]
    assert "the context of 1 of 2 tasks was shortened" in shortened.notes[0]


def test_a_policys_own_prompt_is_never_shortened(job: Job) -> None:
    rows = [row("a", trace="12"), row("b", "x" * 500, trace="12")]
    with pytest.raises(JobRefused, match=r"1 of 2 prompts are longer than the 300 tokens.*'b'"):
        prepare(job(*rows, tasks={"overlong": "shorten"}))


def test_documents_come_from_the_library_within_the_budget(job: Job, tmp_path: Path) -> None:
    manuals = tmp_path / "manuals"
    manuals.mkdir()
    (manuals / "pump.md").write_text("The pump trips below two bar.")
    (manuals / "pump2.md").write_text("A second pump: " + "y" * 150)
    (manuals / "photo.png").write_bytes(b"\xff\xfe\xfd")
    view = {"kind": "documents", "documents": "manuals", "max_tokens": 120}
    rows = [row("asks", "why does the pump trip?"), {**row("names"), "privileged": {}}]
    rows[1]["privileged"] = {"document_ids": ["pump.md"]}
    ready = prepare(job(*rows, privileged=view))
    for task in ready.tasks:
        assert task.privileged.documents == ("pump.md:\nThe pump trips below two bar.",)
    assert "1 file(s) are not UTF-8 text" in ready.notes[0]

    with pytest.raises(TaskFileError, match=r"'zebra' has none.*shares a word with it"):
        prepare(job(row("zebra", "zebra?"), privileged=view))
    with pytest.raises(TaskFileError, match=r"names 'gone\.md', which privileged\.documents"):
        prepare(job(row("a", document_ids=["gone.md"]), privileged=view))
    with pytest.raises(LibraryError, match="cannot be read"):
        prepare(job(row("a"), privileged={**view, "documents": "absent"}))


def test_documents_named_without_a_library_are_refused(job: Job) -> None:
    with pytest.raises(
        TaskFileError, match=r"1 task\(s\) name documents, but privileged.documents"
    ):
        prepare(job(row("a", document_ids=["x"]), privileged={"kind": "documents"}))


def test_images_are_refused_by_count(job: Job) -> None:
    image = {"type": "image_url", "image_url": {"url": "a.png"}}
    pictured = row("b", trace="12") | {"messages": [{"role": "user", "content": [image]}]}
    del pictured["prompt"]
    with pytest.raises(JobRefused, match=r"1 task\(s\) hold images, for example 'b'"):
        prepare(job(row("a", trace="12"), pictured))


def test_a_message_of_text_parts_is_the_text(job: Job) -> None:
    parts = [{"type": "text", "text": "3 x"}, {"type": "text", "text": " 4?"}]
    split = row("b", trace="12") | {"messages": [{"role": "user", "content": parts}]}
    del split["prompt"]
    ready = prepare(job(row("a", trace="12"), split))
    assert ready.prompts["a"].tobytes() == ready.prompts["b"].tobytes()
