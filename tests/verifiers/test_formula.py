"""Formulas over scores: arithmetic as everybody reads it, and nothing but arithmetic."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifiers.formula import Formula, FormulaError

SCORES = {"a": 0.5, "b": 0.25}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a", 0.5), ("0.7 * a + 0.3*b", 0.425), ("2 ^ 3 ^ 2", 512.0), ("-a ^ 2", -0.25),
        ("a - b - b", 0.0), ("a / b / 2", 1.0), ("(a + b) * 2", 1.5), ("+a", 0.5),
        ("min(a, b, 1)", 0.25), ("max(a)", 0.5), ("abs(b - a)", 0.25), ("floor(a)", 0.0),
        ("ceil(a)", 1.0), ("exp(0)", 1.0), ("sqrt(b)", 0.5), ("log(1)", 0.0), (" 1e-3 ", 1e-3),
    ],
)  # fmt: skip
def test_arithmetic(text: str, value: float):
    assert Formula(text).value(SCORES) == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [
        "", "a +", "a b", "a ** 2", "a // 2", "a % 2", "a < b", "a if b else 1", "a and b", "not a",
        "[a]", "(a, b)", "'a'", "True", "None", "1j", "a.real", "a[0]", "__import__('os')",
        "open('x')", "min()", "abs(a, b)", "min(a, key=b)", "max(*a)", "min", "lambda: a",
        "(x := 1)", "f'{a}'", "1" * 400, "a +" * 700 + "a", "((((" * 300 + "a" + "))))" * 300,
        "-" * 200 + "a", "a\nb", "a; b", "\0",
    ],
)  # fmt: skip
def test_whatever_else_python_would_read_is_refused(text: str):
    with pytest.raises(FormulaError):
        Formula(text)


@pytest.mark.parametrize(
    "text", ["1 / (a - a)", "log(0)", "sqrt(-1)", "9 ^ 9 ^ 9", "exp(1000)", "(0-8) ^ a", "1e300*1e300"]
)  # fmt: skip
def test_a_formula_without_a_finite_value_says_so(text: str):
    with pytest.raises(FormulaError, match="has no value"):
        Formula(text).value(SCORES)


def test_the_names_it_needs_are_known_before_it_is_computed():
    assert Formula("0.5 * a + min(b, c)").names == {"a", "b", "c"}


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_weighted_sum_is_what_it_says(a: float, b: float, weight: float):
    value = Formula(f"{weight!r} * a + (1 - {weight!r}) * b").value({"a": a, "b": b})
    assert math.isclose(value, weight * a + (1 - weight) * b)
