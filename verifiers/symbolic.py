"""The last resort of the math judge: math-verify, with its known mistakes vetoed.

Only expressions that exact arithmetic left undecided come here, already stripped of
prose, units and structure. sympy parses and simplifies them, so this module must only
ever run in a worker process that has limits and may be killed. What math-verify calls
equal has to be equal numerically too, to 25 digits at several points and to thousands at one,
and letters must agree in case.
"""

from __future__ import annotations

import logging
import re
from importlib import import_module
from typing import Any

from verifiers.notation import depth

# Neither package has types.
sympy: Any = import_module("sympy")
math_verify: Any = import_module("math_verify")

logging.getLogger("math_verify").setLevel(logging.ERROR)

MAX_LENGTH = 600
MAX_DEPTH = 10
DIGITS = 25
EXACT_DIGITS = 5_000
"""Tells the root of 10^600 + 1 from 10^300; what is equal in so many digits is equal."""
_TOO_LARGE = re.compile(
    r"\d{300,}|\^\s*\{?\s*\d{5,}|\d\s*\^\s*\{?\s*\(?\s*\d+\s*\^|\d{4,}\s*\}?!|!!"
)
_NUMERAL = re.compile(r"[\d)}]\s*_")
"""A base that is written in no way we know; math-verify would take the digits for decimal."""
_EXTRACTION = (math_verify.LatexExtractionConfig(boxed_match_priority=0),)
_POINTS = ((3, 7), (11, 13), (29, 17), (5, 23))
_LETTER = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z](?![a-zA-Z])")


def decide(gold: str, answer: str) -> bool | None:
    """Whether two expressions in LaTeX are equal; None when either cannot be read.

    Takes as long as sympy takes: the caller holds the deadline.
    """
    for text in (gold, answer):
        if len(text) > MAX_LENGTH or depth(text) > MAX_DEPTH or _TOO_LARGE.search(text):
            return None
    if _letter_case_differs(gold, answer):
        return False
    if _NUMERAL.search(gold) or _NUMERAL.search(answer):
        return None
    try:
        return _compare(gold, answer)
    except MemoryError:
        raise
    except Exception:  # sympy fails in every way there is on what it was not made for
        return None


def _compare(gold: str, answer: str) -> bool | None:
    left, right = _parse(gold), _parse(answer)
    if left is None or right is None:
        return None
    formulas = isinstance(left, sympy.Expr) and isinstance(right, sympy.Expr)
    agreed = _agree_numerically(left, right) if formulas else None
    if agreed is False:  # far cheaper than asking sympy to simplify the difference
        return False
    if not math_verify.verify(left, right, timeout_seconds=None, allow_set_relation_comp=True):
        return agreed is True and _same_real_function(left, right)
    return agreed is True or not formulas or left == right


def _same_real_function(left: Any, right: Any) -> bool:
    """Whether sides that are equal for positive variables have real values at the same other
    points, and equal ones: sqrt(x^3) and x^(3/2), but not sqrt(x^2) and x."""
    symbols = sorted(left.free_symbols | right.free_symbols, key=str)
    positive = {symbol: sympy.Dummy(positive=True) for symbol in symbols}
    if not symbols or sympy.simplify((left - right).subs(positive)) != 0:
        return False
    for signs in range(1, 2 ** min(len(symbols), 4)):
        point = {
            symbol: sympy.Rational(7 + 2 * index, 5) * (-1) ** (signs >> index & 1)
            for index, symbol in enumerate(symbols)
        }
        one, other = (sympy.N(side.subs(point), DIGITS) for side in (left, right))
        if (one.is_real is True) != (other.is_real is True):
            return False
        if one.is_real is True and not _close(one, other, DIGITS):
            return False
    return True


def warm_up() -> None:
    """Pay for first-use tables now, so that they do not count against a deadline."""
    decide(r"\ln 4", r"2 \ln 2")


def _parse(text: str) -> Any:
    boxed = f"\\boxed{{{text}}}"
    found = math_verify.parse(boxed, _EXTRACTION, fallback_mode="no_fallback", parsing_timeout=None)
    if not found or not isinstance(found[0], sympy.Expr):
        return found[0] if found else None
    units = {symbol: sympy.I for symbol in found[0].free_symbols if symbol.name == "i"}
    return found[0].subs(units)


def _letter_case_differs(gold: str, answer: str) -> bool:
    """math-verify reads `A` and `a` as one symbol."""
    known = set(_LETTER.findall(gold))
    return any(
        letter not in known and letter.swapcase() in known for letter in _LETTER.findall(answer)
    )


def _agree_numerically(left: Any, right: Any) -> bool | None:
    """Whether both have the same value at some points; None where neither can be evaluated."""
    symbols = sorted(left.free_symbols | right.free_symbols, key=str)
    costly = (sympy.factorial, sympy.gamma, sympy.binomial)
    exact = DIGITS if left.has(*costly) or right.has(*costly) else EXACT_DIGITS
    agreed = None
    for numerator, denominator in _POINTS:
        point = {
            symbol: sympy.Rational(numerator + 2 * index, denominator)
            for index, symbol in enumerate(symbols)
        }
        sides = left.subs(point), right.subs(point)
        for digits in (DIGITS, exact) if agreed is None else (DIGITS,):
            close = _close(*sides, digits)
            if close is False:
                return False
            agreed = agreed or close
        if not symbols:
            break
    return agreed


def _close(left: Any, right: Any, digits: int) -> bool | None:
    """Whether two values agree in all but the last 8 of so many digits; None if one is none."""
    values = [sympy.N(side, digits) for side in (left, right)]
    if not all(value.is_number and value.is_finite for value in values):
        return None
    scale = max(abs(value) for value in values)
    return not abs(values[0] - values[1]) > scale * sympy.Float(10, digits) ** (8 - digits)
