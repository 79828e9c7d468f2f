"""The shape of a mathematical answer, and when two answers are the same.

An answer is a number or formula (with a unit perhaps), a name, a tuple, set, interval,
union, list of several answers, ratio, matrix, equation, or a numeral in another base.
Shapes are compared here, part by part; a tuple is never a set and an open interval never
a closed one. Parts that exact arithmetic cannot decide go to the `decide` function that
the caller hands in. Pure; knows nothing of completions and verdicts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

from verifiers import algebra, expression
from verifiers.algebra import AlgebraError, TooLargeError, Value
from verifiers.expression import UnreadableError
from verifiers.notation import balanced, enclosed, normalize, split, words
from verifiers.units import Unit, split_unit

Decide = Callable[[str, str], bool | None]
"""Whether two expressions in LaTeX are equal; None when that cannot be told."""

MAX_PARTS = 200
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

    `form` is `()`, `[]`, `(]`, `[)`, `{}`, `list`, `union`, `ratio`, or the row lengths of
    a matrix.
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


Answer = Scalar | Name | Numeral | Parts | Equation | Relation


class ProseError(ValueError):
    """The text is a sentence, not an answer."""


_NUMERAL = re.compile(r"([0-9A-Za-z]+)_\{?(?:\\text\{)?(\w+)\}*")
_NAMED_BASES = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "twelve": 12, "sixteen": 16,
}  # fmt: skip
_MATRIX = re.compile(r"\\begin\{(\w*matrix|array)\}(?:\{[lcr|]*\})?(.*)\\end\{\1\}", re.DOTALL)
_LABEL = re.compile(
    r"(?:\\?[a-zA-Z]+(?:_\{?\w+\}?)?'?(?:\([a-zA-Z](?:,\s*[a-zA-Z])*\))?|[a-zA-Z ]+)"
)
_MEMBERSHIP = re.compile(r"^[a-zA-Z]\s*\\in(?![a-zA-Z])\s*")
_RELATIONS = (
    *("<", ">", r"\le", r"\ge", r"\ne", r"\in", r"\notin", r"\cap", r"\setminus", r"\subset"),
    *(r"\subseteq", r"\equiv", r"\approx", r"\Rightarrow", r"\mathbb"),
)
_EMPTY_SET = re.compile(r"\\(?:emptyset|varnothing)|\\\{\s*\\\}|∅")
_CONJUNCTION = re.compile(r"\s*(?:\\text\{\s*(?:and|or)\s*\}|,?\s+(?:and|or)\s+(?=\S))\s*")
_MATHEMATICAL_WORDS = frozenset(
    ("sec", "csc", "cot", "arcsin", "arccos", "arctan", "sinh", "cosh", "gcd", "lcm", "mod")
)
# fmt: off
_SHORT_WORDS = frozenset((
    "so", "is", "of", "to", "he", "it", "in", "we", "be", "as", "at", "or", "by", "an", "on",
    "no", "if", "up", "my",
))
# fmt: on
_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_TIMES = re.compile(  # between two numbers, where a variable would have no place
    r"(?<=[\d)}%])\s*[xX]\s*(?=[\d.])|(?<=[\d)}%\w])\s+[xX]\s+(?=[\d.(]|\\frac)"
    r"|(?<=[\d)}%])\s*\\text\{\s*[xX]\s*\}\s*(?=[\d.(]|\\frac)"
)
_OPERATOR = re.compile(r"\S\s*[-+*/]\s*\S")
_COUNTED = re.compile(
    r"(?<=[\d)}%])(?:\s+(?!(?:is|are|was|not|nor|no|or|and|but|if|than|never)\b)[a-zA-Z]{2,}){1,3}"
)


@lru_cache(maxsize=4096)
def read(text: str) -> Answer:
    """The answer written in `text` (LaTeX, Unicode or plain).

    Raises ProseError for sentences, UnreadableError for an empty or unbalanced text and
    TooLargeError for what is out of bounds.
    """
    if len(text) > expression.MAX_LENGTH:
        raise TooLargeError(f"an answer of {len(text)} characters")
    normal = normalize(text)
    if not normal:
        raise UnreadableError("an empty answer")
    if not balanced(normal):
        raise UnreadableError(f"unbalanced braces in {normal[:80]!r}")
    return _read(normal, 0)


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
        case Scalar(), Scalar():
            return _same_scalar(gold, answer, decide)
        case (Relation(), Relation() | Parts()) | (Parts(), Relation()):
            return decide(gold.text, answer.text)
        case _:
            return False


def _read(text: str, depth: int) -> Answer:
    if depth > expression.MAX_DEPTH:
        raise TooLargeError(f"an answer nested more than {expression.MAX_DEPTH} deep")
    if not text:
        raise UnreadableError("an empty part")
    text = _MEMBERSHIP.sub("", text)
    if _EMPTY_SET.fullmatch(text):
        return Parts(text, "{}", ())
    if numeral := _numeral(text):
        return numeral
    if matrix := _MATRIX.fullmatch(text):
        return _matrix(text, matrix[2], depth)
    unions = split(text, r"\cup")
    if len(unions) > 1:
        return _parts(text, "union", unions, depth)
    if pieces := _conjoined(text):
        return _parts(text, "list", pieces, depth)
    if bracketed := enclosed(text):
        opening, inside, closing = bracketed
        pieces = split(inside, ",", ";")
        if opening == "\\{":
            return _parts(text, "{}", pieces, depth)
        if len(pieces) > 1 and opening in "([":
            return _parts(text, opening + closing, pieces, depth)
        if opening == "{" and closing == "}":
            return replace(_read(inside, depth + 1), text=text)
    sides = split(text, "=")
    related = len(split(text, *_RELATIONS)) > 1
    if len(sides) > 1 and not related:
        left, right = sides[0], sides[-1]
        labelled = _LABEL.fullmatch(_TEXT.sub(r"\1", left)) is not None
        if labelled:
            return Equation(text, Name(left), _read(right, depth + 1), True)
        if expression.number(left) is not None:
            right = _TIMES.sub("*", right)  # 36 = 9 x 4
        worked = _worked_out(left, right)
        side = _read(left, depth + 1) if worked is None else Scalar(left, worked)
        return Equation(text, side, _read(right, depth + 1), False)
    if related:
        _refuse_prose(text)
        return Relation(text)
    ratio = split(text, ":")
    if len(ratio) > 1 and all(expression.number(part) is not None for part in ratio):
        return _parts(text, "ratio", ratio, depth)
    if "\\pm" in text and text.count("\\pm") == 1:
        return _parts(text, "list", [text.replace("\\pm", "+"), text.replace("\\pm", "-")], depth)
    return _scalar(text)


def _worked_out(working: str, result: str) -> Value | None:
    """The value of a side that is arithmetic, with `x` as a times sign; None when it is none.

    `5 apples + 3 apples = 8 apples` counts only because it is true: words beside numbers
    may as well be a product of variables.
    """
    plain = _TIMES.sub("*", working)
    if plain != working and (value := _number_of(plain)) is not None:
        return value
    if not words(working) or not _OPERATOR.search(plain):
        return None
    value, stated = _number_of(_without_words(plain)), _number_of(_without_words(result))
    if value is None or stated is None or algebra.equal(value, stated) is not True:
        return None
    return value


def _without_words(text: str) -> str:
    return _COUNTED.sub("", _TEXT.sub(r" \1 ", text))


def _number_of(text: str) -> Value | None:
    try:
        value = expression.parse(text.strip())
    except (UnreadableError, AlgebraError):
        return None
    return None if algebra.approximate(value) is None else value


def _parts(text: str, form: str, pieces: Sequence[str], depth: int) -> Parts:
    if len(pieces) > MAX_PARTS:
        raise TooLargeError(f"an answer of {len(pieces)} parts")
    return Parts(text, form, tuple(_read(piece, depth + 1) for piece in pieces))


def _conjoined(text: str) -> list[str]:
    """The answers of `1, 2 and 3`; none when the text is one answer, like 1,234."""
    if re.fullmatch(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?\s*%?", text):
        return []
    joined = _CONJUNCTION.sub(",", text) if " " in text or "\\text" in text else text
    thousands = re.sub(r"(?<![\d,])(\d{1,3})((?:,\d{3})+)(?![\d,])", _join_thousands, joined)
    pieces = [piece for piece in split(thousands, ",", ";") if piece]
    return pieces if len(pieces) > 1 and enclosed(text) is None else []


def _join_thousands(match: re.Match[str]) -> str:
    return match[1] + match[2].replace(",", "")


def _matrix(text: str, inside: str, depth: int) -> Parts:
    rows = [split(row, "&") for row in split(inside, "\\\\") if row]
    form = "matrix " + ",".join(str(len(row)) for row in rows)
    return _parts(text, form, [cell for row in rows for cell in row], depth)


def _numeral(text: str) -> Numeral | None:
    match = _NUMERAL.fullmatch(text)
    if match is None or not any(character.isdigit() for character in match[1]):
        return None
    base = int(match[2]) if match[2].isdigit() and len(match[2]) < 3 else _NAMED_BASES.get(match[2])
    return None if base is None else Numeral(text, match[1].upper().lstrip("0") or "0", base)


def _scalar(text: str) -> Answer:
    body, unit = split_unit(text)
    try:
        value = expression.parse(body)
    except UnreadableError:
        plain = _TEXT.sub(r" \1 ", text).strip()
        if re.fullmatch(r"[^\W\d_][^\W\d_ '()-]*(?:[ '-]+[^\W\d_]+)*", plain):
            return Name(plain)
        _refuse_prose(text)
        return Scalar(text)
    except TooLargeError:
        raise
    except AlgebraError:
        return Scalar(text)
    if unit is None and _looks_like_a_word(text):
        return Name(_TEXT.sub(r"\1", text))
    decimal = expression.number(body)
    digits = len(re.sub(r"\D", "", body).lstrip("0")) if decimal is not None and "." in body else 0
    return Scalar(text, value, unit, decimal, digits)


def _looks_like_a_word(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z]{3,}|(?:[A-Za-z]+ )+[A-Za-z]{2,}", text) is not None


def _refuse_prose(text: str) -> None:
    found = [
        word
        for word in words(_TEXT.sub("", text))
        if word.lower() not in _MATHEMATICAL_WORDS
        and (len(word) > 2 or word.lower() in _SHORT_WORDS)
    ]
    if found:
        raise ProseError(f"words where an answer was expected: {' '.join(found)[:80]!r}")


def _is_number(answer: Answer) -> bool:
    return (
        isinstance(answer, Scalar)
        and answer.value is not None
        and algebra.approximate(answer.value) is not None
    )


def _spelling(name: str) -> str:
    """Words in lower case without punctuation; a single letter keeps its case."""
    plain = re.sub(r"[^\w\s]", " ", name)
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
    verdict = algebra.equal(gold.value, answer.value)
    if verdict is False:
        return _stands_for(gold, answer) or _stands_for(answer, gold)
    return decide(gold.text, answer.text) if verdict is None else verdict


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
