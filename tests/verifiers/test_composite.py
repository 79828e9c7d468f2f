"""Composites: sums, conjunctions and gates of other verifiers."""

from pathlib import Path
from typing import Any

import pytest

from verifiers.judge import judge
from verifiers.pool import WorkerPool
from verifiers.spec import SpecError, dump_spec, parse_spec
from verifiers.verdict import Verdict

TWELVE = {"kind": "math", "answer": "12"}
BOXED = {"kind": "text", "regex": "(?s).*\\\\boxed\\{.*\\}.*", "extract": {"kind": "text"}}
SHORT = {"kind": "text", "regex": "(?s).{0,12}", "extract": {"kind": "text"}}
BROKEN = {"kind": "sql", "database": "/nonexistent.sqlite", "query": "SELECT 1"}


def verdict(completion: str, **spec: Any) -> Verdict:
    return judge(parse_spec({"kind": "composite", **spec}), completion)


@pytest.mark.parametrize(
    ("completion", "score", "status"),
    [
        ("\\boxed{12}", 1.0, "correct"), ("The answer is 12.", 0.6, "wrong"),
        ("\\boxed{13}", 0.4, "wrong"), ("\\boxed{13}, at some length", 0.2, "wrong"),
        ("The answer is 13, at some length.", 0.0, "wrong"),
    ],
)  # fmt: skip
def test_a_sum_is_the_weighted_mean(completion: str, score: float, status: str):
    parts = [
        {"verifier": TWELVE, "weight": 3},
        {"verifier": BOXED, "weight": 1, "name": "boxed"},
        {"verifier": SHORT},
    ]
    found = verdict(completion, parts=parts)
    assert (found.score, found.status) == (pytest.approx(score), status)
    assert [part["part"] for part in found.evidence["parts"]] == ["0: math", "boxed", "2: text"]


def test_all_means_every_part():
    parts = [{"verifier": TWELVE}, {"verifier": SHORT}]
    assert verdict("\\boxed{12}", parts=parts, combine="all").score == 1.0
    found = verdict("The answer is 12.", parts=parts, combine="all")
    assert (found.score, found.status) == (0.0, "wrong")
    assert found.evidence["first_failure"]["found"] == "text"


def test_a_closed_gate_makes_the_answer_malformed_and_its_parts_are_not_judged():
    parts = [{"verifier": TWELVE}]
    assert verdict("\\boxed{12}", parts=parts, gate=BOXED).score == 1.0
    found = verdict("The answer is 12.", parts=parts, gate=BOXED)
    assert (found.score, found.status) == (0.0, "malformed")
    assert [part["part"] for part in found.evidence["parts"]] == ["gate"]


def test_a_fault_of_ours_in_one_part_is_never_a_score():
    for spec in (
        {"parts": [{"verifier": TWELVE}, {"verifier": BROKEN}]},
        {"parts": [{"verifier": TWELVE}], "gate": BROKEN},
    ):
        found = verdict("\\boxed{12}", **spec)
        assert (found.score, found.status) == (None, "infra_error")


def test_parts_that_all_find_no_answer_are_malformed_together():
    parts = [{"verifier": TWELVE}, {"verifier": {"kind": "schema", "schema": {}}}]
    assert verdict("no idea", parts=parts).status == "malformed"


def test_composites_nest_once_and_no_deeper():
    one = {"kind": "composite", "parts": [{"verifier": TWELVE}]}
    two = {"kind": "composite", "parts": [{"verifier": one}], "gate": one}
    assert judge(parse_spec(two), "12").score == 1.0
    with pytest.raises(SpecError, match="composites of plain verifiers only"):
        parse_spec({"kind": "composite", "parts": [{"verifier": two}]})


def test_a_pool_judges_composites_and_finds_their_files(tmp_path: Path):
    import sqlite3

    with sqlite3.connect(tmp_path / "t.sqlite") as connection:
        connection.execute("CREATE TABLE t (a INTEGER)")
        connection.execute("INSERT INTO t VALUES (12), (13)")
    connection.close()
    query = {"kind": "sql", "database": "t.sqlite", "query": "SELECT a FROM t WHERE a > 12"}
    spec = {
        "kind": "composite",
        "parts": [{"verifier": query}],
        "gate": SHORT | {"regex": "(?s).*"},
    }
    assert parse_spec(dump_spec(parse_spec(spec))) == parse_spec(spec)
    with WorkerPool(1, databases=[tmp_path]) as pool:
        right, wrong = pool.judge_many(
            [(spec, "SELECT a FROM t WHERE NOT a <= 12"), (spec, "SELECT 13")]
        )
    assert (right.status, wrong.status) == ("correct", "wrong")
