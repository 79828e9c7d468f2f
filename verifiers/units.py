"""Units that stand behind a number: `5 \\text{ cm}^2`, `12 apples`, `3 km/h`.

`split_unit` cuts the unit off. Two units conflict when both are known and differ, or when
their exponents differ; an unknown word (apples, clips) only names what was counted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from verifiers.notation import words

_SPELLINGS = {
    "m": "m meter meters metre metres",
    "cm": "cm centimeter centimeters centimetre centimetres",
    "mm": "mm millimeter millimeters millimetre millimetres",
    "km": "km kilometer kilometers kilometre kilometres",
    "in": "in inch inches",
    "ft": "ft foot feet",
    "yd": "yd yard yards",
    "mi": "mi mile miles",
    "mg": "mg milligram milligrams",
    "g": "g gram grams",
    "kg": "kg kilogram kilograms",
    "lb": "lb lbs pound pounds",
    "oz": "oz ounce ounces",
    "ml": "ml milliliter milliliters millilitre millilitres",
    "l": "liter liters litre litres",
    "gal": "gal gallon gallons",
    "s": "s sec secs second seconds",
    "min": "min mins minute minutes",
    "h": "h hr hrs hour hours",
    "day": "day days",
    "week": "week weeks",
    "month": "month months",
    "year": "yr yrs year years",
    "celsius": "degreeC celsius",
    "fahrenheit": "degreeF fahrenheit",
    "usd": "dollar dollars usd",
    "cent": "cent cents",
    "unit": "unit units",
}
_KNOWN = {
    spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings.split()
}
_QUOTIENTS = {
    "mph": {"mi": 1, "h": -1}, "kph": {"km": 1, "h": -1}, "kmh": {"km": 1, "h": -1},
    "mps": {"m": 1, "s": -1},
}  # fmt: skip
_SENTENCE_WORDS = frozenset(
    ("is", "are", "was", "not", "the", "and", "or", "but", "because", "if", "then", "than")
)
_SINGLE_LETTERS = "mgshlLJNWVK"

_TOKEN = re.compile(
    r"(?P<text>\\text\{[^{}]*\})|(?P<word>(?<!\\)\b[A-Za-z]+|(?<=\d)[A-Za-z]+)"
    r"|(?P<exponent>\s*\^\s*(?:\{-?\d\}|-?\d)(?!\d))|(?P<joint>\s*[/*-]\s*|\s+)|\\[a-zA-Z]+|.",
    re.DOTALL,
)
_LETTER = rf"(?:[{_SINGLE_LETTERS}]|{'|'.join(sorted(_KNOWN, key=len, reverse=True))})"
_POWER = rf"{_LETTER}(?:\^\{{?-?\d\}}?)?"
_SINGLE = re.compile(
    rf"(?P<body>[-+]?[\d.,]+)\s+(?P<unit>{_POWER}(?:\s*[/*]\s*{_POWER})*(?![A-Za-z]))"
)
_WORD = re.compile(r"[A-Za-z]+|\^\s*\{?(-?\d)\}?|/")


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit as powers of known units; unknown words carry no meaning but their exponent."""

    known: tuple[tuple[str, int], ...]
    unknown: tuple[int, ...]

    def conflicts(self, other: Unit) -> bool:
        """Whether two numbers with these units cannot be the same quantity."""
        if self.known and other.known:
            return self.known != other.known
        exponents = [exponent for _, exponent in self.known] + list(self.unknown)
        others = [exponent for _, exponent in other.known] + list(other.unknown)
        return max(exponents) != max(others)


def split_unit(text: str) -> tuple[str, Unit | None]:
    """The text without its unit, and the unit; (text, None) when it has none."""
    if single := _SINGLE.fullmatch(text):
        return single["body"], _parse(single["unit"])
    start = _start(list(_TOKEN.finditer(text)))
    if start is None:
        return text, None
    body = text[:start]
    unit = _parse(text[start:].replace("\\text", " "))
    if unit is None or not body.strip() or body.rstrip()[-1] in "+-*/^_=([{," or words(body):
        return text, None
    if text[start] != "\\":
        if _SENTENCE_WORDS & {word.lower() for word in words(text[start:])}:
            return text, None
        known = unit.known and body[-1].isspace()
        # Letters that touch or follow letters are a product of variables, or a sentence.
        letters = body.rstrip()[-1].isalpha() and not (known and body.rstrip().endswith("\\pi"))
        if letters or (not body[-1].isspace() and not unit.known):
            return text, None
    return body.strip(), unit


def _start(tokens: list[re.Match[str]]) -> int | None:
    """Where the run of unit words that ends the text begins."""
    start = None
    for index in range(len(tokens) - 1, -1, -1):
        token = tokens[index]
        match token.lastgroup:
            case "text":
                start = token.start()
            case "word" if len(token[0]) > 1:
                start = token.start()
            case "word" if index and tokens[index - 1][0].strip() == "/":
                continue
            case "exponent" | "joint":
                continue
            case _:
                break
    return start


def _parse(text: str) -> Unit | None:
    powers: dict[str, int] = {}
    unknown: list[int] = []
    sign, square, last = 1, 1, ""
    for match in _WORD.finditer(text):
        token = match[0]
        word = token.lower()
        if token == "/" or word == "per":
            sign = -1
        elif word in ("square", "sq", "squared"):
            if word == "squared" and last:
                powers[last] = powers.get(last, 0) + sign
            else:
                square = 2
        elif word in ("cubic", "cubed"):
            if word == "cubed" and last:
                powers[last] = powers.get(last, 0) + 2 * sign
            else:
                square = 3
        elif match[1] is not None:
            extra = (int(match[1]) - 1) * sign
            if last:
                powers[last] += extra
            elif unknown:
                unknown[-1] += extra
        else:
            for name, exponent in _QUOTIENTS.get(word, {}).items():
                powers[name] = powers.get(name, 0) + exponent
            if word in _QUOTIENTS:
                continue
            last = _KNOWN.get(token) or _KNOWN.get(word) or ""
            if last:
                powers[last] = powers.get(last, 0) + sign * square
            else:
                unknown.append(sign * square)
            square = 1
    if not powers and not unknown:
        return None
    return Unit(tuple(sorted(powers.items())), tuple(unknown))
