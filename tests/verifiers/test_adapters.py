"""The verifiers as reward functions of verl, EasyR1 and TRL, and the examples that show it."""

import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from verifiers.adapters import (
    NoVerdictError,
    compute_score,
    easyr1_scores,
    shared_pool,
    trl_reward,
    verdicts,
)
from verifiers.spec import SpecError
from verifiers.verify_lines import verify

REPOSITORY = Path(__file__).parents[2]
GRADERS = REPOSITORY / "examples" / "graders"
BROKEN = {"kind": "sql", "database": "absent.sqlite", "query": "SELECT 1"}


def test_verl_scores_an_answer_a_spec_and_a_spec_in_extra_info():
    assert compute_score("gsm8k", "The answer is 12.", "12") == 1.0
    assert compute_score("gsm8k", "The answer is 13.", 12) == 0.0
    choice = {"kind": "choice", "answer": "A", "choices": ["x", "y"]}
    assert compute_score("mmmu", "A", json.dumps(choice)) == 1.0
    assert compute_score("mmmu", "B", "ignored", {"verifier": choice}) == 0.0
    assert compute_score("sets", "\\boxed{\\{1, 2\\}}", "\\{2, 1\\}") == 1.0
    assert compute_score("gsm8k", "12", "12", {"verifier": None, "index": 3}) == 1.0


def test_columns_that_pandas_read_are_as_good_as_lists():
    choice = {"kind": "choice", "answer": "A", "choices": np.array(["x", "y"], object)}
    assert compute_score("mmmu", "A", "ignored", {"verifier": choice}) == 1.0
    calls = {
        "kind": "code",
        "entry_point": "f",
        "calls": np.array([{"args": np.array([2]), "expect": 4}]),
    }
    assert compute_score("code", "def f(x): return x * x", calls) == 1.0


def test_easyr1_gets_the_scores_of_a_batch():
    inputs = [
        {"response": said, "response_length": 1, "ground_truth": "12"} for said in ("12", "13")
    ]
    assert easyr1_scores(inputs) == [
        {"overall": 1.0, "accuracy": 1.0},
        {"overall": 0.0, "accuracy": 0.0},
    ]
    with pytest.raises(NoVerdictError, match="absent"):
        easyr1_scores([*inputs, {**inputs[0], "ground_truth": json.dumps(BROKEN)}])


def test_a_fork_of_the_trainer_judges_too():
    assert compute_score("gsm8k", "12", "12") == 1.0
    child = os.fork()
    if child == 0:
        right = compute_score("gsm8k", "12", "12") == 1.0
        shared_pool().close()
        os._exit(0 if right else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert compute_score("gsm8k", "13", "12") == 0.0, "and the trainer's own pool is unharmed"


def test_verl_hears_of_a_fault_of_ours_and_of_a_bad_spec():
    with pytest.raises(NoVerdictError, match="absent"):
        compute_score("shop", "SELECT 1", BROKEN)
    with pytest.raises(SpecError, match="answer"):
        compute_score("math", "12", {"kind": "math"})


def test_trl_gets_a_score_for_each_completion_and_none_without_a_verdict():
    math = {"kind": "math", "answer": "12", "choices": None}
    chat = [{"role": "assistant", "content": "The answer is 12."}]
    column = [math, json.dumps({"kind": "math", "answer": "12"}), BROKEN]
    rewards = trl_reward([chat, "13", "SELECT 2"], column, prompts=["", "", ""])
    assert rewards == [1.0, 0.0, None]


def test_whole_verdicts_are_there_for_those_who_log_them():
    (verdict,) = verdicts(["12"], ["The answer is 13."])
    assert verdict.evidence["extracted"] == "13"


@pytest.mark.parametrize(
    ("example", "prints"),
    [
        ("verl_reward.py", ["1.0", "1.0", "0.0"]),
        ("trl_reward.py", ["[1.0, 0.0]"]),
        (
            "easyr1_reward.py",
            ["[{'overall': 1.0, 'accuracy': 1.0}, {'overall': 0.0, 'accuracy': 0.0}]"],
        ),
    ],
)
def test_the_examples_run_and_print_what_they_say(example: str, prints: list[str]):
    done = subprocess.run(
        [sys.executable, str(GRADERS / example)],
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.split("\n")[:-1] == prints


@pytest.mark.parametrize("example", ["verl_reward.py", "easyr1_reward.py"])
def test_a_trainer_finds_the_function_in_the_file_that_it_loads_by_its_path(example: str):
    spec = importlib.util.spec_from_file_location("custom_reward_fn", GRADERS / example)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if example == "verl_reward.py":
        row = {"data_source": "gsm8k", "solution_str": "12", "ground_truth": "12"}
        assert module.compute_score(**row, extra_info={"index": 0}) == 1.0
    else:
        assert module.compute_score([{"response": "12", "ground_truth": "12"}])[0]["overall"] == 1.0


def test_the_example_cases_are_judged_as_a_reader_expects():
    output = io.StringIO()
    with (GRADERS / "cases.jsonl").open() as cases:
        verify(cases, output, shared_pool())
    statuses = {row["id"]: row["status"] for row in map(json.loads, output.getvalue().splitlines())}
    assert statuses == {
        "sum": "correct", "capital": "correct", "json": "correct", "choice": "wrong",
        "gated": "malformed",
    }  # fmt: skip
