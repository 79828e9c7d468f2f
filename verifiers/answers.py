"""The shape of a mathematical answer, and when two answers are the same.

An answer is a number or formula (with a unit perhaps), a name, a tuple, set, interval,
union, list of several answers, ratio, matrix, equation, or a numeral in another base.
Shapes are compared here, part by part; a tuple is never a set and an open interval never
a closed one. Parts that exact arithmetic cannot decide go to the `decide` function that
the caller hands in. Pure; `reading` makes shapes of text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from verifiers import algebra, expression
from verifiers.algebra import AlgebraError, Value
from verifiers.expression import UnreadableError
from verifiers.notation import normalize
from verifiers.units import Unit

Decide = Callable[[str, str], bool | None]
"""Whether two expressions in LaTeX are equal; None when that cannot be told."""

APPROXIMATION_DIGITS = 6
"""Significant digits from which a decimal may stand for an exact value (0.333333 = 1/3)."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number or formula; `value` is None when only a computer algebra system can read it."""

    text: str
    value: Value | None = None
    unit: Unit | None = None
    decimal: Fraction | None = None
    """The value when it was written as a decimal literal."""
    digits: int = 0
    """Significant digits of that literal."""


@dataclass(frozen=True, slots=True)
class Name:
    """Words: `Monday`, `\\text{no solution}`."""

    text: str


@dataclass(frozen=True, slots=True)
class Numeral:
    """Digits in a stated base, like 1011_2."""

    text: str
    digits: str
    base: int


@dataclass(frozen=True, slots=True)
class Parts:
    """Several answers in one: brackets, separators and what stands between them.

    `form` is `()`, `[]`, `(]`, `[)`, `{}`, `list`, `union`, `ratio`, `mod` (a residue and its modulus),
    `rounded` (an exact value and its decimal), `option` (a letter and what it
    stands for), or the row lengths of a matrix.
    """

    text: str
    form: str
    items: tuple[Answer, ...]

    @property
    def unordered(self) -> bool:
        """Whether the order of the parts means nothing."""
        return self.form in ("{}", "list", "union")


@dataclass(frozen=True, slots=True)
class Equation:
    """left = right; `labelled` when the left side merely names the answer, as in x = 5."""

    text: str
    left: Answer
    right: Answer
    labelled: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """Inequalities and set expressions: left to the computer algebra system."""

    text: str


_HOUR = re.compile(r"(\d+):00[ap]m")
_INDIAN = re.compile(r"[-+]?\d{1,2}(?:,\d{2})+,\d{3}")

Answer = Scalar | Name | Numeral | Parts | Equation | Relation


def same(gold: Answer, answer: Answer, decide: Decide) -> bool | None:
    """Whether `answer` says what `gold` says; None when that cannot be told."""
    if gold.text == answer.text:
        return True
    match gold, answer:
        case Equation(), Equation():
            return _same_equation(gold, answer, decide)
        case Equation(labelled=True), _:
            return same(gold.right, answer, decide)
        case _, Equation():
            nameless = answer.labelled or _is_number(answer.left)
            return same(gold, answer.right, decide) if nameless else False
        case Parts(form="option"), Parts(form="option"):
            return _same_parts(gold, answer, decide)
        case Parts(form="rounded" | "option", items=either), _:
            return any(same(one, answer, decide) is True for one in either)
        case _, Parts(form="rounded" | "option", items=either):
            return any(same(gold, one, decide) is True for one in either)
        case Parts(), Parts():
            return _same_parts(gold, answer, decide)
        case Parts(form="{}" | "list", items=(only,)), _:
            return same(only, answer, decide)
        case _, Parts(form="{}" | "list", items=(only,)):
            return same(gold, only, decide)
        case Name(), Name():
            return _spelling(gold.text) == _spelling(answer.text)
        case Numeral(), Numeral():
            return gold.base == answer.base and gold.digits == answer.digits
        case (Numeral(base=10), Scalar()) | (Scalar(), Numeral(base=10)):
            return _same_decimal(gold, answer)
        case Parts(form="ratio", items=(_, _)), Scalar():
            return _same_scalar(_quotient(gold), answer, decide)
        case Scalar(), Parts(form="ratio", items=(_, _)):
            return _same_scalar(gold, _quotient(answer), decide)
        case Parts(form="mod", items=(residue, _)), Scalar():
            return same(residue, answer, decide)
        case Scalar(), Parts(form="mod", items=(residue, _)):
            return same(gold, residue, decide)
        case Scalar(), Parts(form="list") if _INDIAN.fullmatch(answer.text):
            return _same_scalar(gold, _ungrouped(answer), decide)
        case Scalar(), Scalar():
            return _same_scalar(gold, answer, decide)
        case (Relation(), Relation() | Parts()) | (Parts(), Relation()):
            return decide(gold.text, answer.text)
        case (Name(), Scalar()) | (Scalar(), Name()):
            return _same_product(gold, answer)
        case _:
            return False


def _same_product(gold: Answer, answer: Answer) -> bool:
    """`abc` is read as a word; beside a formula it is a product. 5 may be meant for 5 p.m."""
    word, formula = (gold, answer) if isinstance(gold, Name) else (answer, gold)
    if not isinstance(formula, Scalar) or formula.value is None or not word.text.isascii():
        return False
    if clock := _HOUR.fullmatch(word.text):
        return formula.value.rational == int(clock[1])
    return word.text.isalpha() and algebra.equal(expression.parse(word.text), formula.value) is True


def _quotient(ratio: Parts) -> Scalar:
    """3:4 beside the number 3/4."""
    left, right = ratio.items
    text = f"({left.text})/({right.text})"
    try:
        return Scalar(text, expression.parse(text))
    except (UnreadableError, AlgebraError):
        return Scalar(text)


def _ungrouped(grouped: Parts) -> Scalar:
    """12,34,567 beside a number."""
    digits = grouped.text.replace(",", "")
    return Scalar(digits, expression.parse(digits))


def _is_number(answer: Answer) -> bool:
    return (
        isinstance(answer, Scalar)
        and answer.value is not None
        and algebra.approximate(answer.value) is not None
    )


def _spelling(name: str) -> str:
    """Words in lower case without punctuation; a single letter keeps its case."""
    plain = re.sub(r"\\text|[^\w\s]", " ", name)
    plain = re.sub(r"\s+", " ", plain).strip()
    return plain if len(plain) == 1 else plain.casefold()


def _same_decimal(gold: Answer, answer: Answer) -> bool:
    numeral, scalar = (gold, answer) if isinstance(gold, Numeral) else (answer, gold)
    if not isinstance(numeral, Numeral) or not isinstance(scalar, Scalar) or scalar.value is None:
        return False
    value = expression.number(numeral.digits)
    return value is not None and value == scalar.value.rational


def _same_scalar(gold: Scalar, answer: Scalar, decide: Decide) -> bool | None:
    if gold.unit and answer.unit and gold.unit.conflicts(answer.unit):
        return False
    if gold.value is None or answer.value is None:
        return decide(gold.text, answer.text)
    if _abbreviated(gold, answer) or _abbreviated(answer, gold):
        return True
    verdict = algebra.equal(gold.value, answer.value)
    if verdict is False:
        return _stands_for(gold, answer) or _stands_for(answer, gold)
    return decide(gold.text, answer.text) if verdict is None else verdict


def _abbreviated(measured: Scalar, product: Scalar) -> bool:
    """Whether `3m`, read as a product, is the 3 metres that the other side spells out."""
    if measured.unit is None or product.unit is not None or measured.value is None:
        return False
    ((name, exponent), *more) = measured.unit.known or (("", 0),)
    if len(name) != 1 or exponent != 1 or more or product.value is None:
        return False
    return algebra.equal(product.value, measured.value * algebra.symbol(name)) is True


def _stands_for(decimal: Scalar, exact: Scalar) -> bool:
    """Whether a decimal of enough digits is the rounding of a value that is no decimal."""
    if decimal.decimal is None or decimal.digits < APPROXIMATION_DIGITS or exact.value is None:
        return False
    if exact.decimal is not None:
        return False
    value = exact.value.rational
    if value is None:
        approximation = algebra.approximate(exact.value)
        if approximation is None or decimal.digits > 14:
            return False
        value = Fraction(approximation)
    elif _terminates(value):
        return False
    places = len(normalize(decimal.text).partition(".")[2].rstrip("%"))
    return round(value, places) == decimal.decimal


def _terminates(value: Fraction) -> bool:
    denominator = value.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1


def _same_parts(gold: Parts, answer: Parts, decide: Decide) -> bool | None:
    if "()" in (gold.form, answer.form) and "list" in (gold.form, answer.form):
        gold, answer = _assigned(gold), _assigned(answer)
    if gold.unordered and answer.unordered and "union" not in (gold.form, answer.form):
        return _same_bag(gold.items, answer.items, decide)
    if gold.form == answer.form == "union":
        return _same_bag(gold.items, answer.items, decide) or decide(gold.text, answer.text)
    if "union" in (gold.form, answer.form):
        return decide(gold.text, answer.text)
    if _matrix_form(gold) != _matrix_form(answer) or len(gold.items) != len(answer.items):
        return False
    return _all(
        same(left, right, decide) for left, right in zip(gold.items, answer.items, strict=True)
    )


def _assigned(parts: Parts) -> Parts:
    """`x = 3, y = -1` as the point (3, -1), in the order of the letters."""
    named = {
        item.left.text: item.right
        for item in parts.items
        if isinstance(item, Equation) and item.labelled and len(item.left.text) == 1
    }
    if parts.form != "list" or len(named) < len(parts.items):
        return parts
    return Parts(parts.text, "()", tuple(named[name] for name in sorted(named)))


def _matrix_form(parts: Parts) -> str:
    """A column vector may be written as a tuple."""
    return "()" if re.fullmatch(r"matrix 1(?:,1)*", parts.form) else parts.form


def _same_bag(gold: Sequence[Answer], answer: Sequence[Answer], decide: Decide) -> bool | None:
    if len(gold) != len(answer):
        return False
    left = list(answer)
    unknown = False
    for wanted in gold:
        verdicts = [same(wanted, candidate, decide) for candidate in left]
        if True in verdicts:
            left.pop(verdicts.index(True))
        elif None in verdicts:
            unknown = True
        else:
            return False
    return None if unknown else True


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    unknown = False
    for verdict in verdicts:
        if verdict is False:
            return False
        unknown = unknown or verdict is None
    return None if unknown else True


def _same_equation(gold: Equation, answer: Equation, decide: Decide) -> bool | None:
    if gold.labelled and answer.labelled and gold.left.text == answer.left.text:
        return same(gold.right, answer.right, decide)
    difference = [_difference(equation) for equation in (gold, answer)]
    left, right = difference
    if left is None or right is None:
        return decide(gold.text, answer.text)
    if left.rational is not None or right.rational is not None:
        return False
    try:
        ratio = _ratio(left, right)
    except AlgebraError:
        return decide(gold.text, answer.text)
    return decide(gold.text, answer.text) if ratio is None else ratio


def _difference(equation: Equation) -> Value | None:
    left, _, right = equation.text.partition("=")
    try:
        return expression.parse(left.strip()) - expression.parse(right.strip())
    except (UnreadableError, AlgebraError):
        return None


def _ratio(left: Value, right: Value) -> bool | None:
    """Whether two polynomials are multiples of each other by a rational number."""
    term = next(iter(left.numerator))
    if term not in right.numerator:
        return None
    factor = algebra.number(left.numerator[term] / right.numerator[term])
    return True if algebra.equal(left, right * factor) else None
