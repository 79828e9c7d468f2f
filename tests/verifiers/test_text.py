"""The text judge: equal texts, numbers within a tolerance, patterns in linear time."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifiers.judge import judge
from verifiers.spec import parse_spec


def status(completion: str, **spec: Any) -> str:
    return judge(parse_spec({"kind": "text", **spec}), completion).status


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("Paris", "correct"), ("The answer is Paris.", "correct"), ("\\boxed{Paris}", "correct"),
        ("The answer is **Paris**.", "correct"), ("<think>Rome?</think>Paris", "correct"),
        ("paris", "wrong"), ("Paris, France", "wrong"), ("I would say Paris", "wrong"),
        ("The answer is Rome.", "wrong"), ("Pari\u0301s", "wrong"),
        ("\\boxed{Paris} \\boxed{Rome}", "malformed"), ("", "malformed"), ("  \n", "malformed"),
        ("\\boxed{Paris} and again \\boxed{ Paris }", "correct"),
    ],
)  # fmt: skip
def test_exact_text_is_exact(completion: str, expected: str):
    assert status(completion, answer="Paris") == expected


def test_case_and_the_spelling_of_unicode_and_white_space_may_not_matter():
    assert status("STRASSE", answer="straße", ignore_case=True) == "correct"
    assert status("Cafe\u0301", answer="Café") == "correct"
    assert status("New \n York", answer="New York", extract={"kind": "text"}) == "correct"


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("3.14", "correct"), ("3.15", "correct"), ("3.13", "correct"), ("3.1501", "wrong"),
        ("The answer is about 3.141 metres.", "correct"), ("\\boxed{\\frac{22}{7}}", "correct"),
        ("\\boxed{\\pi}", "correct"), ("x = 3.14", "correct"), ("314e-2", "correct"),
        ("3,14", "malformed"), ("-3.14", "wrong"), ("314%", "correct"), ("2.9 and then 3.14", "correct"),
        ("\\boxed{3.14} or \\boxed{3.15}", "malformed"), ("The answer is 3.14 or 3.15.", "malformed"),
        ("no idea", "malformed"), ("\\boxed{9^{9^9}}", "wrong"), ("\\boxed{x}", "malformed"),
        ("\\boxed{nan}", "malformed"), ("inf", "malformed"),
    ],
)  # fmt: skip
def test_a_number_counts_within_its_tolerance(completion: str, expected: str):
    assert status(completion, number=3.14, tolerance=0.01) == expected


@given(st.fractions(-1000, 1000, max_denominator=1000), st.floats(0, 1))
def test_a_tolerance_is_relative_to_the_gold(number: Any, tolerance: float):
    gold = float(number)
    for factor in (1.0, 1 + tolerance / 2, 1 - tolerance / 2):
        said = f"{gold * factor:.17f}"
        assert status(said, number=gold, relative_tolerance=tolerance, tolerance=1e-9) == "correct"
    if abs(gold) > 0.01:
        said = f"{gold * (1 + 2 * tolerance + 0.01):.17f}"
        assert status(said, number=gold, relative_tolerance=tolerance) == "wrong"


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("AB-1234", "correct"), ("The answer is AB-1234.", "correct"), ("\\boxed{AB-1234}", "correct"),
        ("AB-123", "wrong"), ("xAB-1234", "wrong"), ("AB-1234\nAB-1234", "wrong"),
        ("ab-1234", "wrong"), ("\\boxed{AB-1234} \\boxed{AB-1235}", "malformed"),
        ("\ud800", "malformed"),
    ],
)  # fmt: skip
def test_a_pattern_must_match_the_whole_answer(completion: str, expected: str):
    assert status(completion, regex="[A-Z]{2}-[0-9]{4}") == expected


def test_a_pattern_may_ignore_case():
    assert status("ab-1234", regex="[A-Z]{2}-[0-9]{4}", ignore_case=True) == "correct"


@pytest.mark.parametrize("regex", ["(a+)+b", "(a|aa)+$b", "(.*)*x", "(a*)*(a*)*c"])
def test_no_pattern_is_slow_on_any_text(regex: str):
    started = time.thread_time()
    assert status("a" * 100_000, regex=regex, extract={"kind": "text"}) == "wrong"
    assert time.thread_time() - started < 2.0


def test_evidence_shows_what_was_asked_and_found():
    verdict = judge(parse_spec({"kind": "text", "number": 2, "tolerance": 0.5}), "\\boxed{3}")
    assert dict(verdict.evidence) == {"gold": "2", "extracted": "3", "found": "boxed"}
