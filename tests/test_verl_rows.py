"""Rows of verl and EasyR1: read as they are, each with the verifier its reward stands for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.dataset import TaskFileError, load_tasks
from trainer.records import Privileged, Task

ASK = [{"role": "user", "content": "Natalia sold 48 clips, then half as many. How many?"}]
GSM8K: dict[str, Any] = {
    "data_source": "openai/gsm8k",
    "prompt": ASK,
    "ability": "math",
    "reward_model": {"style": "rule", "ground_truth": "72"},
    "extra_info": {
        "split": "train",
        "index": 7,
        "answer": "48 + 24 = 72\n#### 72",
        "question": "?",
    },
}


def load(folder: Path, *rows: dict[str, Any]) -> list[Task]:
    path = folder / "train.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return load_tasks(path)


def verl(truth: Any, **extra: Any) -> dict[str, Any]:
    reward = {"style": "rule", "ground_truth": truth}
    return {"data_source": "mine", "prompt": ASK, "reward_model": reward, "extra_info": extra}


def refused(folder: Path, row: dict[str, Any]) -> str:
    with pytest.raises(TaskFileError) as caught:
        load(folder, row)
    (problem,) = caught.value.problems
    assert problem.line == 1
    return str(problem)


def test_a_verl_row_is_a_task_with_its_answer_and_worked_solution(tmp_path: Path) -> None:
    assert load(tmp_path, GSM8K) == [
        Task(
            "openai/gsm8k-train-7",
            tuple(ASK),
            {"kind": "math", "answer": "72"},
            Privileged(answer="72", trace="48 + 24 = 72\n#### 72"),
        )
    ]


def test_parquet_gives_the_same_tasks_as_jsonl(tmp_path: Path) -> None:
    other = {**GSM8K, "extra_info": {"split": "train", "index": 8}}
    path = tmp_path / "train.parquet"
    pq.write_table(pa.Table.from_pylist([GSM8K, other]), path)
    assert load_tasks(path) == load(tmp_path, GSM8K, other)


@pytest.mark.parametrize(
    ("truth", "verifier"),
    [
        ("\\frac{1}{2}", {"kind": "math", "answer": "\\frac{1}{2}"}),
        (["72"], {"kind": "math", "answer": "72"}),
        (72, {"kind": "math", "answer": "72"}),
        ("{1, 2}", {"kind": "math", "answer": "{1, 2}"}),
        (
            '{"kind": "choice", "answer": "A", "choices": ["x", "y"]}',
            {"kind": "choice", "answer": "A", "choices": ["x", "y"]},
        ),
        (
            {"kind": "text", "answer": "Oslo"},
            {"kind": "text", "answer": "Oslo"},
        ),
        (
            json.dumps({"inputs": ["1\n", ["2", "3"]], "outputs": ["1\n", "5"]}),
            {
                "kind": "code",
                "stdio": [{"stdin": "1\n", "stdout": "1\n"}, {"stdin": "2\n3", "stdout": "5"}],
            },
        ),
    ],
)
def test_a_ground_truth_says_which_verifier_judges(
    tmp_path: Path, truth: Any, verifier: dict[str, Any]
) -> None:
    (task,) = load(tmp_path, verl(truth))
    assert task.verifier == verifier
    assert task.privileged.answer == verifier.get("answer")


def test_a_spec_in_extra_info_goes_before_the_ground_truth(tmp_path: Path) -> None:
    spec = {"kind": "text", "answer": "Oslo"}
    for given in (spec, json.dumps(spec)):
        (task,) = load(tmp_path, verl("Oslo", verifier=given, solution="It is Oslo, of course."))
        assert task.verifier == spec
        assert task.privileged == Privileged(answer="Oslo", trace="It is Oslo, of course.")


def test_a_row_without_index_is_called_by_its_line(tmp_path: Path) -> None:
    assert [task.id for task in load(tmp_path, verl("1"), verl("2"))] == ["train-1", "train-2"]


def test_an_easyr1_row_is_a_task_and_its_image_stands_where_it_was(tmp_path: Path) -> None:
    row = {"problem": "<image>What is the angle?", "answer": "45", "images": ["a.png"]}
    (task,) = load(tmp_path, row)
    assert task.verifier == {"kind": "math", "answer": "45"}
    assert task.privileged == Privileged(answer="45")
    assert task.messages[0]["content"] == [
        {"type": "image_url", "image_url": {"url": "a.png"}},
        {"type": "text", "text": "What is the angle?"},
    ]


def test_image_bytes_in_parquet_become_a_data_url(tmp_path: Path) -> None:
    prompt = [{"role": "user", "content": "Look: <image> Which?"}]
    row = {**GSM8K, "prompt": prompt, "images": [{"bytes": b"abc", "path": None}]}
    path = tmp_path / "train.parquet"
    pq.write_table(pa.Table.from_pylist([row]), path)
    before, image, after = load_tasks(path)[0].messages[0]["content"]
    assert (before["text"], after["text"]) == ("Look: ", " Which?")
    assert image["image_url"]["url"].endswith("base64,YWJj")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({**GSM8K, "reward_model": {"style": "model", "ground_truth": "1"}}, "only `rule` rewards"),
        ({**GSM8K, "reward_model": {"style": "rule"}}, "is NoneType, not an answer"),
        ({**GSM8K, "reward_model": "72"}, "reward_model: is str; it should be an object"),
        ({**GSM8K, "prompt": []}, "prompt: is neither a text nor a list"),
        (verl(["a", "b"]), "is list, not an answer"),
        (verl({"target": ["a"]}), "is an object of target"),
        (verl(json.dumps({"inputs": ["1"], "outputs": ["1"], "fn_name": "f"})), "whole programs"),
        (verl(json.dumps({"inputs": ["1"], "outputs": []})), "as many `outputs` as `inputs`"),
        (verl("1", verifier={"kind": "magic"}), "'magic' is no verifier"),
        ({"problem": "<image>?", "answer": "1", "images": ["a", "b"]}, "1 of 2 have no <image>"),
        ({"problem": "<image><image>?", "answer": "1", "images": ["a"]}, "are fewer than"),
        ({"problem": "", "answer": "1"}, "problem: is not the text"),
    ],
)
def test_a_row_whose_reward_no_rule_decides_is_refused_by_field(
    tmp_path: Path, row: dict[str, Any], words: str
) -> None:
    assert words in refused(tmp_path, row)


def test_a_strop_row_with_foreign_fields_is_still_refused(tmp_path: Path) -> None:
    row = {"prompt": "?", "verifier": {"kind": "math", "answer": "1"}, "data_source": "x"}
    assert "data_source: Extra inputs" in refused(tmp_path, row)
