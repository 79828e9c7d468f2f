"""The verifiers as reward functions of verl, EasyR1 and TRL, and the examples that show it."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from verifiers.adapters import NoVerdictError, compute_score, shared_pool, trl_reward, verdicts
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
    [("verl_reward.py", ["1.0", "1.0", "0.0"]), ("trl_reward.py", ["[1.0, 0.0]"])],
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


def test_the_example_cases_are_judged_as_a_reader_expects():
    output = io.StringIO()
    with (GRADERS / "cases.jsonl").open() as cases:
        verify(cases, output, shared_pool())
    statuses = {row["id"]: row["status"] for row in map(json.loads, output.getvalue().splitlines())}
    assert statuses == {
        "sum": "correct", "capital": "correct", "json": "correct", "choice": "wrong",
        "gated": "malformed",
    }  # fmt: skip
