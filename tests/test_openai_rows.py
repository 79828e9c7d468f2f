"""OpenAI's items: with a grader of the job, each becomes a task with its own verifier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.config import JobSpec
from trainer.dataset import TaskFileError, load_tasks
from trainer.records import Privileged, Task
from verifiers.judge import judge
from verifiers.spec import parse_spec

ASK = [{"role": "user", "content": "The capital of Norway?"}]
ITEM: dict[str, Any] = {"messages": ASK, "city": "Oslo"}
EQUAL = {
    "type": "string_check",
    "name": "city",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.city }}",
    "operation": "eq",
}


def load(folder: Path, grader: dict[str, Any], *rows: Any) -> list[Task]:
    path = folder / "items.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return load_tasks(path, grader)


def verdict(task: Task, completion: str) -> str:
    return judge(parse_spec(task.verifier), completion).status


def test_an_item_is_judged_by_the_jobs_grader(tmp_path: Path) -> None:
    oslo, rome = load(tmp_path, EQUAL, ITEM, {"id": 7, "messages": ASK, "city": "Rome"})
    assert (oslo.id, rome.id) == ("items-1", "7")
    assert oslo.messages == tuple(ASK)
    assert [verdict(oslo, city) for city in ("Oslo", "Rome")] == ["correct", "wrong"]
    assert [verdict(rome, city) for city in ("Oslo", "Rome")] == ["wrong", "correct"]


@pytest.mark.parametrize(
    ("grader", "row", "seen"),
    [
        (EQUAL, ITEM, Privileged(answer="Oslo")),
        (EQUAL, {**ITEM, "privileged": {"trace": "It is Oslo."}}, Privileged(trace="It is Oslo.")),
        ({**EQUAL, "operation": "ne"}, ITEM, Privileged()),
        (
            {"type": "math", "answer": "{{ item.sum }}"},
            {"messages": ASK, "sum": 12},
            Privileged(answer="12"),
        ),
        (
            {"type": "python", "source": "def grade(sample, item):\n    return 1.0"},
            ITEM,
            Privileged(),
        ),
    ],
)
def test_the_teacher_may_see_what_the_item_holds_or_its_reference(
    tmp_path: Path, grader: dict[str, Any], row: dict[str, Any], seen: Privileged
) -> None:
    assert load(tmp_path, grader, row)[0].privileged == seen


def test_a_developer_speaks_as_the_system(tmp_path: Path) -> None:
    chat = [{"role": "developer", "content": "Be brief."}, *ASK]
    task = load(tmp_path, EQUAL, {**ITEM, "messages": chat})[0]
    assert [message["role"] for message in task.messages] == ["system", "user"]


@pytest.mark.parametrize(
    ("row", "field", "said"),
    [
        ({"messages": ASK}, "grader", "nothing at {{ item.city }}"),
        ({"city": "Oslo"}, "messages", "is missing"),
        ({**ITEM, "messages": "?"}, "messages", "list"),
        ({**ITEM, "verifier": {"kind": "math", "answer": "1"}}, "verifier", "one of the two"),
        ({**ITEM, "tools": [{"type": "function"}]}, "tools", "no tools"),
        ({**ITEM, "privileged": {"key": "Oslo"}}, "privileged.key", "Extra inputs"),
    ],
)
def test_an_item_that_cannot_be_used_is_refused_by_field(
    tmp_path: Path, row: dict[str, Any], field: str, said: str
) -> None:
    with pytest.raises(TaskFileError) as refused:
        load(tmp_path, EQUAL, ITEM, row)
    (problem,) = refused.value.problems
    assert (problem.line, problem.field) == (2, field)
    assert said in problem.message


@pytest.mark.parametrize("grader", [{"type": "score_model"}, {"type": "oracle"}, {}])
def test_a_job_with_a_grader_that_is_none_is_refused(grader: dict[str, Any]) -> None:
    tasks = {"train": "t.jsonl", "grader": grader}
    with pytest.raises(ValueError, match=r"tasks\.grader"):
        JobSpec.model_validate({"model": {"path": "m"}, "tasks": tasks})
