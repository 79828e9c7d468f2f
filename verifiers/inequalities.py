"""Inequalities as the sets they describe: `-1 < x \\le 3` is `x \\in (-1, 3]`.

Reads normalised notation in one variable with numbers for bounds: chains, `x < -1 or x > 1`,
`x \\ne 2`, `{x : x > 0}` and the reals without some points. Strings in, strings out; what
it does not know is left to the computer algebra system.
"""

from __future__ import annotations

import re
from itertools import pairwise

from verifiers import algebra, expression
from verifiers.algebra import AlgebraError
from verifiers.expression import UnreadableError
from verifiers.notation import enclosed, split

_SIGNS = ("<", ">", r"\le", r"\ge", r"\ne")
_SIGN = re.compile(r"<|>|\\(?:le|ge|ne)(?![a-zA-Z])")
_VARIABLE = re.compile(r"(?:[a-df-hj-zA-Z]|\\(?:alpha|beta|theta|lambda|mu))(?:_\{?\w\}?)?")
_OR = re.compile(
    r"\s*(?:\\text\{\s*or\s*\}|(?<![a-zA-Z])or(?![a-zA-Z])|\\(?:lor|vee)(?![a-zA-Z]))\s*"
)
_AND = re.compile(
    r"\s*(?:\\text\{\s*and\s*\}|(?<![a-zA-Z])and(?![a-zA-Z])|\\(?:land|wedge)(?![a-zA-Z]))\s*"
)
_BUILDER = re.compile(
    r"([a-zA-Z])\s*(?:\\in\s*(?:\\mathbb\s*\{?R\}?|\\R))?\s*(?:\||:|\\colon)\s*(.*)", re.DOTALL
)
_WITHOUT = re.compile(
    r"(?:[a-zA-Z]\s*\\in\s*)?(?:\\mathbb\s*\{?R\}?|\(-\\infty\s*,\s*\\infty\s*\))"
    r"\s*(?:\\setminus|\\backslash|-|\\)\s*(\\\{.*\\\})"
)
_ENDLESS = r"\infty"


def solved(text: str) -> tuple[str, str] | None:
    """The variable and the interval or union that it lies in; None for any other text.

    The variable is empty where the text names none.
    """
    bracketed = enclosed(text)
    if bracketed and bracketed[0] == "\\{" and (builder := _BUILDER.fullmatch(bracketed[1])):
        found = solved(builder[2])
        return ("", found[1]) if found and found[0] == builder[1] else None
    if without := _WITHOUT.fullmatch(text):
        inside = enclosed(without[1])
        holes = _between([*split(inside[1], ",")]) if inside else None
        return None if holes is None else ("", holes)
    pieces = [_one(piece) for piece in _OR.split(text)]
    if len(pieces) == 1:
        both = [_one(piece) for piece in _AND.split(text)]
        if len(both) == 2:
            return _overlap(*both)
    variables = {piece[0] for piece in pieces if piece}
    if None in pieces or len(variables) != 1:
        return None
    return variables.pop(), r"\cup ".join(piece[1] for piece in pieces if piece)


def _one(text: str) -> tuple[str, str] | None:
    """One inequality or chain of two."""
    signs = _SIGN.findall(text)
    terms = [term.strip() for term in split(text, *_SIGNS)]
    if len(signs) + 1 != len(terms) or len(signs) not in (1, 2):
        return None
    if signs[0] in (">", r"\ge"):
        terms, signs = terms[::-1], [_turned(sign) for sign in signs[::-1]]
    if len(signs) == 2:
        low, variable, high = terms
        if not {*signs} <= {"<", r"\le"} or not _VARIABLE.fullmatch(variable):
            return None
        return _interval(variable, low, signs[0], high, signs[1])
    left, right = terms
    (sign,) = signs
    if _VARIABLE.fullmatch(left):
        if sign == r"\ne":
            holes = _between([right])
            return None if holes is None else (left, holes)
        return _interval(left, f"-{_ENDLESS}", "<", right, sign)
    if _VARIABLE.fullmatch(right) and sign != r"\ne":
        return _interval(right, left, sign, _ENDLESS, "<")
    return None


def _turned(sign: str) -> str:
    return {">": "<", r"\ge": r"\le"}.get(sign, "")


def _interval(variable: str, low: str, above: str, high: str, below: str) -> tuple[str, str] | None:
    if not _is_bound(low) or not _is_bound(high):
        return None
    opening, closing = "(" if above == "<" else "[", ")" if below == "<" else "]"
    return variable, f"{opening}{low},{high}{closing}"


def _overlap(left: tuple[str, str] | None, right: tuple[str, str] | None) -> tuple[str, str] | None:
    """`x > 1 and x < 3`: one bound from below and one from above."""
    if left is None or right is None or left[0] != right[0]:
        return None
    if left[1].startswith(f"(-{_ENDLESS},"):
        left, right = right, left
    low, low_end = left[1][:-1].split(",", 1)
    high_start, high = right[1].split(",", 1)
    if low_end != _ENDLESS or high_start != f"(-{_ENDLESS}":
        return None
    value, bound = _value(low[1:]), _value(high[:-1])
    return (
        (left[0], f"{low},{high}")
        if value is not None and bound is not None and value < bound
        else None
    )


def _between(points: list[str]) -> str | None:
    """The reals without some points."""
    values = [_value(point) for point in points]
    known = [value for value in values if value is not None]
    if len(known) < len(points) or len(set(known)) < len(known):
        return None
    ordered = [point for _, point in sorted(zip(known, points, strict=True))]
    edges = [f"-{_ENDLESS}", *ordered, _ENDLESS]
    return r"\cup ".join(f"({low},{high})" for low, high in pairwise(edges))


def _is_bound(text: str) -> bool:
    return text.replace(" ", "") in (_ENDLESS, f"-{_ENDLESS}") or _value(text) is not None


def _value(text: str) -> float | None:
    try:
        return algebra.approximate(expression.parse(text))
    except (UnreadableError, AlgebraError):
        return None
