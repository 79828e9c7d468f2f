"""Facts about the databases that tasks name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.job_sections import TasksSpec
from services.task_needs import folders, unreachable
from trainer.records import Privileged, Task


def task(name: str, verifier: dict[str, Any]) -> Task:
    return Task(name, ({"role": "user", "content": "?"},), verifier, Privileged())


def sql(database: str, **more: Any) -> dict[str, Any]:
    return {"kind": "sql", "database": database, "query": "SELECT 1", **more}


def test_databases_lie_beside_the_task_files() -> None:
    assert folders(TasksSpec(train="/a/train.jsonl", holdout="/a/test.jsonl")) == ["/a"]
    assert folders(TasksSpec(train="/a/train.jsonl", holdout="/b/test.jsonl")) == ["/a", "/b"]


def test_a_database_that_is_there_is_no_problem(tmp_path: Path) -> None:
    (tmp_path / "shop.sqlite").touch()
    tasks = [
        task("relative", sql("shop.sqlite")),
        task("absolute", sql(str(tmp_path / "shop.sqlite"))),
        task("a server's", sql("postgresql://db/shop", engine="postgres")),
        task("none", {"kind": "math", "answer": "1"}),
    ]
    assert unreachable(tasks, [str(tmp_path)], "tasks.jsonl") == []


def test_each_database_that_cannot_be_queried_is_told_once_with_a_task_of_its(
    tmp_path: Path,
) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "outside.sqlite").touch()
    outside = {"kind": "composite", "parts": [{"verifier": sql("../outside.sqlite")}]}
    tasks = [
        task("first", sql("lost.sqlite")),
        task("second", sql("lost.sqlite")),
        task("third", outside),
    ]
    lost, beyond = unreachable(tasks, [str(tmp_path / "tasks")], "tasks.jsonl")
    assert "task 'first': there is no file" in lost.message
    assert "lost.sqlite" in lost.message
    assert "task 'third'" in beyond.message
    assert "lies outside" in beyond.message


def test_tasks_that_ask_a_model_are_told_once_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    about = [{"role": "user", "content": "{{ sample.output_text }}"}]
    asks = {"kind": "score_model", "model": "m", "input": about}
    inside = {"kind": "multi", "graders": {"m": asks}, "calculate_output": "m"}
    tasks = [task("first", asks), task("second", inside)]
    monkeypatch.delenv("STROP_GRADER_MODEL_URL", raising=False)
    (missing,) = unreachable(tasks, [], "tasks.jsonl")
    assert "task 'first': a score_model verifier asks a model" in missing.message
    monkeypatch.setenv("STROP_GRADER_MODEL_URL", "https://models.example/v1")
    assert unreachable(tasks, [], "tasks.jsonl") == []
