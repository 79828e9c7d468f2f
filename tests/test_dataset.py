"""Task files: good rows become tasks, bad ones are all reported by file, line and field."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.context_checks import missing_privileged
from trainer.dataset import (
    SHOWN_PROBLEMS,
    TaskFileError,
    TaskOrder,
    load_tasks,
    split_by_length,
)
from trainer.records import Privileged, Task

ASK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "3 x 4?"}]
MATH = {"kind": "math", "answer": "12"}
SCHEMA = {
    "kind": "schema",
    "schema": {"type": "object", "properties": {"name": {"enum": ["Ana", None]}}},
    "expected": {"name": None},
}
ROW = {
    "id": "t1",
    "messages": ASK,
    "verifier": MATH,
    "privileged": {"answer": "12", "trace": "3 x 4 = 12", "documents": ["tables"]},
}
TASK = Task("t1", tuple(ASK), MATH, Privileged("12", "3 x 4 = 12", ("tables",)))


def jsonl(folder: Path, *rows: Any, name: str = "train.jsonl") -> Path:
    path = folder / name
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"\n".join(lines))
    return path


def problems(path: Path) -> list[tuple[int | None, str | None, str]]:
    with pytest.raises(TaskFileError) as refused:
        load_tasks(path)
    assert all(str(path) in str(problem) for problem in refused.value.problems)
    return [(p.line, p.field, p.message) for p in refused.value.problems]


def test_a_row_becomes_a_task(tmp_path: Path) -> None:
    assert load_tasks(jsonl(tmp_path, ROW)) == [TASK]


def test_a_prompt_is_one_user_message_and_an_absent_id_is_the_line(tmp_path: Path) -> None:
    path = jsonl(tmp_path, ROW, {"prompt": "3 x 4?\u2028", "verifier": MATH})
    assert load_tasks(path)[1] == Task(
        "train-2", ({"role": "user", "content": "3 x 4?\u2028"},), MATH
    )


def test_parquet_structs_and_json_text_give_the_same_tasks_as_jsonl(tmp_path: Path) -> None:
    rows = [ROW, {"id": "t2", "prompt": "4 x 4?", "verifier": {**MATH, "answer": "16"}}]
    expected = load_tasks(jsonl(tmp_path, *rows))
    structs, texts = tmp_path / "structs.parquet", tmp_path / "texts.parquet"
    whole = {name: [row.get(name) for row in rows] for name in (*ROW, "prompt")}
    pq.write_table(pa.table(whole), structs)
    text_rows = [
        {k: v if k in ("id", "prompt") else json.dumps(v) for k, v in row.items()} for row in rows
    ]
    columns = {name: [row.get(name) for row in text_rows] for name in (*ROW, "prompt")}
    pq.write_table(pa.table(columns), texts)
    assert load_tasks(structs) == load_tasks(texts) == expected


def test_json_text_in_parquet_keeps_null(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"prompt": ["?"], "verifier": [json.dumps(SCHEMA)]}), path)
    assert load_tasks(path)[0].verifier == SCHEMA


def test_every_malformed_row_is_reported_at_once(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path,
        ROW,
        b'{"id": "t2", ',
        b"",
        b'"\xff"',
        ["no", "object"],
        {"messages": ASK},
        {"messages": [], "verifier": MATH},
        {"messages": [{"role": "user", "content": 3}], "verifier": MATH},
        {"messages": [{"role": "boss", "content": "x"}], "verifier": MATH},
        {"prompt": "x", "messages": ASK, "verifier": MATH},
        {"prompt": "x", "verifier": MATH, "privileged": {"answer": 12, "hint": "y"}},
        {"prompt": "x", "verifier": {"kind": "magic"}},
        {"prompt": "x", "verifier": {"kind": "math"}},
        {"id": "t1", "prompt": "x", "verifier": MATH},
        {"messages": [*ASK, {"role": "assistant", "content": "12"}], "verifier": MATH},
        {"prompt": "x", "verifier": MATH, "reward": 1},
    )
    found = problems(path)
    assert [(line, field) for line, field, _ in found] == [
        (2, None),
        (3, None),
        (4, None),
        (5, None),
        (6, "verifier"),
        (7, "messages"),
        (8, "messages.0.content"),
        (9, "messages.0.role"),
        (10, None),
        (11, "privileged.answer"),
        (11, "privileged.hint"),
        (12, "verifier"),
        (13, "verifier"),
        (14, "id"),
        (15, None),
        (16, "reward"),
    ]
    messages = [message for _, _, message in found]
    assert "is not JSON" in messages[0]
    assert messages[1] == "is blank"
    assert "not UTF-8" in messages[2]
    assert "not 3" in messages[6]
    assert "magic" in messages[11]
    assert "answer" in messages[12]
    assert messages[13] == "'t1' is already the id of row 1"


def test_one_row_with_two_faults_reports_both(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"id": 7, "prompt": "x", "verifier": {"kind": "magic"}})
    assert [field for _, field, _ in problems(path)] == ["id", "verifier"]


def test_parquet_problems_name_the_row(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    verifiers = [json.dumps(MATH), "{oops", json.dumps({"kind": "magic"})]
    pq.write_table(pa.table({"prompt": ["a", "b", "c"], "verifier": verifiers}), path)
    assert [(line, field) for line, field, _ in problems(path)] == [
        (2, "verifier"),
        (3, "verifier"),
    ]
    with pytest.raises(TaskFileError, match=r"train\.parquet, row 2: verifier: is text, but not"):
        load_tasks(path)


def test_the_message_is_capped_and_counts_the_rest_while_problems_has_all(tmp_path: Path) -> None:
    path = jsonl(tmp_path, *[{"prompt": "x"}] * (SHOWN_PROBLEMS + 5))
    with pytest.raises(TaskFileError) as refused:
        load_tasks(path)
    lines = str(refused.value).splitlines()
    assert len(refused.value.problems) == SHOWN_PROBLEMS + 5
    assert lines[0].startswith(f"{SHOWN_PROBLEMS + 5} problem")
    assert len(lines) == SHOWN_PROBLEMS + 2
    assert lines[-1] == "and 5 more"
    assert f"{path}, line 1: verifier: Field required" in lines


def test_the_error_crosses_a_process_border_whole(tmp_path: Path) -> None:
    with pytest.raises(TaskFileError) as refused:
        load_tasks(tmp_path / "no.jsonl")
    again = pickle.loads(pickle.dumps(refused.value))
    assert again.problems == refused.value.problems
    assert str(again) == str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.jsonl", None, "cannot be read: No such file"),
        ("absent.parquet", None, "cannot be read"),
        ("empty.jsonl", b"", "is empty"),
        ("broken.parquet", b"PAR1 nonsense", "is not a Parquet file"),
        ("tasks.csv", b"a,b", "read from .jsonl and .parquet"),
    ],
)
def test_a_file_without_tasks_is_one_clear_problem(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    ((line, field, found),) = problems(tmp_path / name)
    assert (line, field) == (None, None)
    assert message in found


def test_a_folder_is_not_a_task_file(tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    ((_, _, found),) = problems(tmp_path / "folder.jsonl")
    assert "cannot be read" in found


def test_a_parquet_file_without_rows_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "none.parquet"
    pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), path)
    assert problems(path)[0][2].startswith("is empty")


def test_tasks_without_the_privileged_field_are_named() -> None:
    bare = Task("t2", tuple(ASK), MATH, Privileged(answer="12"))
    found = missing_privileged([TASK, bare], "trace", "train.jsonl")
    assert [p.field for p in found] == ["privileged.trace"]
    assert "'t2'" in str(found[0])
    assert missing_privileged([TASK, bare], "answer") == []
    assert missing_privileged([TASK, bare], "none") == []


def test_tasks_are_split_at_the_limit_and_none_is_lost() -> None:
    tasks = [Task(f"t{n}", ({"role": "user", "content": "x" * n},), MATH) for n in range(1, 6)]
    fitting, too_long = split_by_length(tasks, lambda t: t.messages[0]["content"].encode(), 3)
    assert [t.id for t in fitting] == ["t1", "t2", "t3"]
    assert [t.id for t in too_long] == ["t4", "t5"]


orders = st.tuples(st.integers(1, 12), st.integers(0, 2**32), st.booleans())


@given(orders, st.lists(st.integers(0, 20), max_size=5), st.lists(st.integers(0, 20), max_size=5))
def test_a_resumed_order_goes_on_as_the_uninterrupted_one(
    order: tuple[int, int, bool], before: list[int], after: list[int]
) -> None:
    whole = TaskOrder(*order)
    first = TaskOrder(*order)
    expected = [whole.take(k) for k in (*before, *after)]
    taken = [first.take(k) for k in before]
    saved = json.loads(json.dumps(first.state()))
    second = TaskOrder(*order)
    second.restore(saved)
    assert taken + [second.take(k) for k in after] == expected


@given(orders, st.integers(1, 4))
def test_every_epoch_visits_every_task_once(order: tuple[int, int, bool], epochs: int) -> None:
    n, _, shuffle = order
    walk = TaskOrder(*order)
    for _ in range(epochs):
        epoch = walk.take(n)
        assert sorted(epoch) == list(range(n))
        assert shuffle or epoch == list(range(n))


def test_shuffling_depends_on_seed_and_epoch() -> None:
    walk, other = TaskOrder(50, 1, True), TaskOrder(50, 2, True)
    first, second = walk.take(50), walk.take(50)
    assert first != second
    assert first != other.take(50)


def test_a_cursor_of_another_order_is_refused() -> None:
    saved = TaskOrder(5, 1, True).state()
    with pytest.raises(ValueError, match="saved with n 5, this job has 6"):
        TaskOrder(6, 1, True).restore(saved)
