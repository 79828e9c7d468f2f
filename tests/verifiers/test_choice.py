"""The choice judge: letters, texts, and no guessing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifiers.judge import judge
from verifiers.spec import parse_spec

CITIES = {"kind": "choice", "answer": "B", "choices": ["London", "Paris", "Rome", "New York"]}


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("B", "correct"), ("(B)", "correct"), ("B.", "correct"), ("**B**", "correct"),
        ("B. Paris", "correct"), ("(B) Paris", "correct"), ("Paris", "correct"),
        ("paris", "correct"), ("The answer is (B).", "correct"), ("Answer: B", "correct"),
        ("The answer is Paris", "correct"), ("\\boxed{B}", "correct"),
        ("\\boxed{\\text{B}}", "correct"), ("$\\boxed{\\textbf{(B)}}$", "correct"),
        ("The correct answer is option B, because A is wrong", "correct"),
        ("Not (A), for it rains.\nTherefore the correct option is (B)", "correct"),
        ("A dog. I think Paris is it", "correct"), ("<think>(A)?</think>(B)", "correct"),
        ("A", "wrong"), ("The answer is (C).", "wrong"), ("Rome", "wrong"), ("D: ok", "wrong"),
        ("b", "malformed"), ("\\boxed{b}", "malformed"), ("A or B", "malformed"),
        ("(A) and (B)", "malformed"), ("The answer is not B", "malformed"),
        ("B. London", "malformed"), ("The answer is B. The answer is C.", "malformed"),
        ("I don't know", "malformed"), ("", "malformed"), ("E", "malformed"),
        ("London, Paris or Rome", "malformed"), ("Ｂ", "correct"), ("（Ｂ）", "correct"), ("Ａ", "wrong"),
        ("Answer: B) Paris", "correct"), ("\\boxed{\\text{(B) Paris}}", "correct"), ("**Answer:** B", "correct"),
        ("答案：B", "correct"), ("B is the correct answer.", "correct"), ("𝐁", "correct"),
        ("B\n\nExplanation: it is not in Italy (C).", "correct"), ("The answer is (B), not (A).", "correct"),
        ("The answer is B, because C or D is wrong", "correct"), ("Paris, since London rains", "correct"),
        ("A... no, B", "malformed"), ("A. No, wait, B.", "malformed"), ("Both A and B", "malformed"),
        ("B (or C)", "malformed"), ("B, possibly C", "malformed"), ("B is not correct", "malformed"),
        ("B isn't it", "malformed"), ("A\nB\nC\nD", "malformed"), ("(A)(B)(C)(D)", "malformed"),
        ("Β", "malformed"), ("В", "malformed"), ("AB", "malformed"), ("2", "malformed"),
    ],
)  # fmt: skip
def test_one_named_option_is_needed(completion: str, expected: str):
    assert judge(parse_spec(CITIES), completion).status == expected


def test_the_gold_may_be_the_text_of_an_option():
    spec = parse_spec({**CITIES, "answer": "New York"})
    assert judge(spec, "D").status == "correct"
    assert judge(spec, "York").status == "malformed"


def test_numbers_are_the_same_option_however_written():
    spec = parse_spec({"kind": "choice", "answer": "A", "choices": ["1,000", "12", "0.5"]})
    assert judge(spec, "1000").status == "correct"
    assert judge(spec, "The answer is 12.").status == "wrong"


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("\\boxed{\\frac{1}{3}}", "correct"), ("1/3", "correct"), ("B) \\frac13", "correct"), ("0.5", "wrong"),
        ("none of these", "wrong"), ("\\frac{1}{5}", "malformed"), ("A) 1/3", "malformed"),
    ],
)  # fmt: skip
def test_a_formula_is_the_option_that_it_equals(completion: str, expected: str):
    options = ["$\\frac{1}{2}$", "$\\frac{1}{3}$", "$\\frac14$", "none of these"]
    spec = parse_spec({"kind": "choice", "answer": "B", "choices": options})
    assert judge(spec, completion).status == expected


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("Yes.", "correct"), ("Yes, it is.", "correct"), ("No, it is not.", "wrong"), ("not yes", "malformed"),
        ("Yes, because there is no rain.", "correct"), ("Yes and no", "malformed"), ("B", "wrong"),
    ],
)  # fmt: skip
def test_yes_and_no_are_read_before_what_explains_them(completion: str, expected: str):
    spec = parse_spec({"kind": "choice", "answer": "A", "choices": ["Yes", "No"]})
    assert judge(spec, completion).status == expected


def test_the_longer_option_is_meant_when_one_text_contains_another():
    spec = parse_spec({"kind": "choice", "answer": "B", "choices": ["York", "New York"]})
    assert judge(spec, "I would say New York it is").status == "correct"


@given(st.integers(0, 3), st.integers(0, 3))
def test_a_letter_is_correct_exactly_when_it_is_the_gold(gold: int, said: int):
    spec = parse_spec({**CITIES, "answer": "ABCD"[gold]})
    for form in ("{}", "({})", "The answer is {}.", "\\boxed{{{}}}", "Answer: **{}**"):
        verdict = judge(spec, form.format("ABCD"[said]))
        assert verdict.status == ("correct" if gold == said else "wrong")
