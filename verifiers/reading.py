"""The answer that a text writes: LaTeX, Unicode or plain, read into a shape.

Brackets, separators, equations, matrices, bases, units and words are told apart here; what
is a sentence is refused. Pure; `answers` has the shapes and compares them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from verifiers import algebra, expression, inequalities
from verifiers.algebra import AlgebraError, TooLargeError, Value
from verifiers.answers import Answer, Equation, Name, Numeral, Parts, Relation, Scalar
from verifiers.expression import UnreadableError
from verifiers.notation import TEXT, balanced, enclosed, normalize, split, words
from verifiers.units import split_unit

MAX_PARTS = 200


class ProseError(ValueError):
    """The text is a sentence, not an answer."""


_NUMERAL = re.compile(r"(?:\\text\{|\()?([0-9A-Za-z]+)[})]?_\{?(?:\\text\{)?(\w+)\}*")
_IN_BASE = re.compile(
    r"([0-9A-Za-z]+)\s*(?:\\text\{)?\s*\(?\s*(?:in )?base[\s}-]*(\w+)\s*\)?\s*\}?", re.IGNORECASE
)
_NAMED_BASES = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "twelve": 12, "sixteen": 16,
}  # fmt: skip
_MATRIX = re.compile(
    r"[(\[]?\s*\\begin\{(\w*matrix|array)\}(?:\{[lcr|]*\})?(.*)\\end\{\1\}\s*[)\]]?", re.DOTALL
)
_LABEL = re.compile(
    r"(?:\\?[a-zA-Z]+(?:_\{?\w+\}?)?'?(?:\([a-zA-Z](?:,\s*[a-zA-Z])*\))?|[a-zA-Z ]+"
    r"|\((?:[a-zA-Z]|\\[a-z]+)(?:,\s*(?:[a-zA-Z]|\\[a-z]+)\s*)+\)|[fghpqFGPQASTVNECL]\([\d,. ]+\)"
    r"|\\frac\{d[a-z]?\}\{d[a-z]\}|\|[A-Z]{2}\|)"
)
_MEMBERSHIP = re.compile(r"^[a-zA-Z]\s*\\in(?![a-zA-Z])\s*")
_RELATIONS = (
    *("<", ">", r"\le", r"\ge", r"\ne", r"\in", r"\notin", r"\cap", r"\setminus", r"\subset"),
    *(r"\subseteq", r"\equiv", r"\approx", r"\Rightarrow", r"\mathbb"),
)
_OPTION = re.compile(  # \textbf{(C)}\ 42
    r"(?:\\text\{\s*\(([A-E])\)\s*\}\s*|\(([A-E])\)\s+)([^()\s].*)", re.DOTALL
)
_EITHER = re.compile(r"\\pm(?![a-zA-Z])")
_ORDER = ("<", ">", r"\le", r"\ge", r"\ne", r"\setminus", r"\backslash")
_MODULO = re.compile(r"([^=<>]*?)\s*\\p?mod\s*\{(.*)\}")
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
_TIME = re.compile(r"\d{1,2}(?::\d{2}){0,2}\s*[aApP]\.?\s*[mM]\.?")
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
    if any(sign in text for sign in _ORDER) and (solved := inequalities.solved(text)):
        return _solved(text, *solved, depth)
    unions = split(text, r"\cup")
    if len(unions) > 1:
        return _parts(text, "union", unions, depth)
    if option := _OPTION.fullmatch(text):
        return _parts(text, "option", [option[1] or option[2], option[3]], depth)
    if pieces := _conjoined(text):
        return _parts(text, "list", pieces, depth)
    if bracketed := enclosed(text):
        opening, inside, closing = bracketed
        pieces = [each for piece in split(inside, ",", ";") for each in _signed(piece)]
        if opening + closing == "[]" and (rows := _rows(pieces)):
            form = "matrix " + ",".join(str(len(row)) for row in rows)
            return _parts(text, form, [cell for row in rows for cell in row], depth)
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
        if len({expression.number(side) for side in sides} - {None}) > 1:
            return Relation(text)  # 6 = 5
        labelled = _LABEL.fullmatch(TEXT.sub(r"\1", left)) is not None
        if labelled:
            return Equation(text, Name(left), _read(right, depth + 1), True)
        if expression.number(left) is not None:
            right = _TIMES.sub("*", right)  # 36 = 9 x 4
        worked = _worked_out(left, right)
        side = _read(left, depth + 1) if worked is None else Scalar(left, worked)
        return Equation(text, side, _read(right, depth + 1), False)
    if rounded := _rounded(text, depth):
        return rounded
    if residue := _MODULO.fullmatch(text):
        return _parts(text, "mod", residue.groups(), depth)
    if related:
        _refuse_prose(text)
        return Relation(text)
    ratio = split(text, ":")
    if len(ratio) > 1 and all(expression.number(part) is not None for part in ratio):
        return _parts(text, "ratio", ratio, depth)
    if len(signed := _signed(text)) > 1:
        return _parts(text, "list", signed, depth)
    return _scalar(text)


def _rows(pieces: Sequence[str]) -> list[list[str]]:
    """The rows of [[1, 2], [3, 4]]; none when a part is no list in square brackets."""
    inside = [enclosed(piece) for piece in pieces]
    rows = [split(row[1], ",") for row in inside if row and row[0] == "[" and row[2] == "]"]
    return rows if len(rows) == len(pieces) and len({len(row) for row in rows}) == 1 else []


def _signed(text: str) -> list[str]:
    """Both values of `2 \\pm 1`; any other text by itself."""
    if len(_EITHER.findall(text)) != 1:
        return [text]
    return [_EITHER.sub("+", text), _EITHER.sub("-", text)]


def _solved(text: str, variable: str, interval: str, depth: int) -> Answer:
    lies_in = replace(_read(interval, depth + 1), text=interval if variable else text)
    return Equation(text, Name(variable), lies_in, True) if variable else lies_in


def _rounded(text: str, depth: int) -> Answer | None:
    """`2/3 \\approx 0.667`, where the decimal is the value, rounded or cut off."""
    sides = split(text, r"\approx")
    if len(sides) != 2 or any(sign in text for sign in _ORDER):
        return None
    if _LABEL.fullmatch(sides[0]):
        return Equation(text, Name(sides[0]), _read(sides[1], depth + 1), True)
    exact, decimal = (_scalar(side) for side in sides)
    if not isinstance(exact, Scalar) or not isinstance(decimal, Scalar) or not exact.value:
        return None
    value = algebra.approximate(exact.value)
    if value is None or decimal.decimal is None:
        return None
    places = len(sides[1].split(" ")[0].partition(".")[2])
    if abs(value - float(decimal.decimal)) >= 10.0**-places:
        return None
    return Parts(text, "rounded", (exact, decimal))


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
    return _COUNTED.sub("", TEXT.sub(r" \1 ", text))


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
    pieces = [each for piece in split(thousands, ",", ";") if piece for each in _signed(piece)]
    return pieces if len(pieces) > 1 and enclosed(text) is None else []


def _join_thousands(match: re.Match[str]) -> str:
    return match[1] + match[2].replace(",", "")


def _matrix(text: str, inside: str, depth: int) -> Parts:
    rows = [split(row, "&") for row in split(inside, "\\\\") if row]
    form = "matrix " + ",".join(str(len(row)) for row in rows)
    return _parts(text, form, [cell for row in rows for cell in row], depth)


def _numeral(text: str) -> Numeral | None:
    match = _NUMERAL.fullmatch(text) or _IN_BASE.fullmatch(text)
    if match is None:
        return None
    if not any(c.isdigit() for c in match[1]) and not (match[2] == "16" and len(match[1]) > 1):
        return None
    base = int(match[2]) if match[2].isdigit() and len(match[2]) < 3 else _NAMED_BASES.get(match[2])
    return None if base is None else Numeral(text, match[1].upper().lstrip("0") or "0", base)


def _scalar(text: str) -> Answer:
    if text[-1] in "mM}." and _TIME.fullmatch(plain := TEXT.sub(r" \1 ", text).strip()):
        clock = re.sub(r"[.\s]", "", plain).lower().lstrip("0")
        return Name(clock if ":" in clock else f"{clock[:-2]}:00{clock[-2:]}")
    body, unit = split_unit(text)
    try:
        value = expression.parse(body)
    except UnreadableError:
        plain = TEXT.sub(r" \1 ", text).strip()
        if re.fullmatch(r"[^\W\d_][^\W\d_ '()-]*(?:[ '-]+[^\W\d_]+)*", plain):
            return Name(plain)
        _refuse_prose(text if len(plain) == len(text) else plain)
        return Scalar(text)
    except TooLargeError:
        raise
    except AlgebraError:
        return Scalar(text)
    if unit is None and _looks_like_a_word(text):
        return Name(TEXT.sub(r"\1", text))
    decimal = expression.number(body)
    digits = len(re.sub(r"\D", "", body).lstrip("0")) if decimal is not None and "." in body else 0
    return Scalar(text, value, unit, decimal, digits)


def _looks_like_a_word(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z]{3,}|(?:[A-Za-z]+ )+[A-Za-z]{2,}", text) is not None


def _refuse_prose(text: str) -> None:
    found = [
        word
        for word in words(TEXT.sub("", text))
        if word.lower() not in _MATHEMATICAL_WORDS
        and (len(word) > 2 or word.lower() in _SHORT_WORDS)
    ]
    if found:
        raise ProseError(f"words where an answer was expected: {' '.join(found)[:80]!r}")
