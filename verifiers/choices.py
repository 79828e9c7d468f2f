"""Options and their letters: which option a short text names.

An upper-case letter (`B`, `(B)`, `B. Paris`, `option B`) or an option's own text names
it. A lower-case letter names nothing: `a` is an article and a variable.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from verifiers.expression import number
from verifiers.notation import normalize

LABELS = string.ascii_uppercase

_WRAPPERS = re.compile(r"\\(?:text|textbf|mathrm|mathbf|boxed)\s*\{([^{}]*)\}")
_LABEL = r"(?:\(([A-Z])\)|\[([A-Z])\]|([A-Z]))"
_NAMED = re.compile(
    rf"(?:(?:[Oo]ption|[Cc]hoice|[Ll]etter)\s+)?{_LABEL}(?P<rest>(?:[).:,\s-].*)?)", re.DOTALL
)
_BRACKETED = re.compile(r"[(\[]([A-Z])[)\]]")
_STANDING = re.compile(r"(?<![\w'$\\])([A-Z])(?![\w'’])")
_NEGATION = re.compile(r"\b(?:not|neither|nor|except|never)\b|n't\b", re.IGNORECASE)
_ENGLISH = ("A", "I")


def fold(text: str) -> str:
    """Text as compared: one case, single spaces, no final full stop."""
    return " ".join(text.split()).casefold().rstrip(".").strip()


def gold_index(answer: str, choices: Sequence[str]) -> int | None:
    """The option that a gold answer names: its letter first, else its exact text."""
    plain = answer.strip()
    if plain in LABELS[: len(choices)] and plain:
        if plain in choices and choices.index(plain) != LABELS.index(plain):
            return None
        return LABELS.index(plain)
    return _by_text(plain, choices)


def named(text: str, choices: Sequence[str]) -> set[int]:
    """Every option that a text names as its answer; empty when it names none."""
    plain = _plain(text)
    by_text = _by_text(plain, choices)
    labels = LABELS[: len(choices)]
    match = _NAMED.fullmatch(plain)
    label = next((group for group in match.groups()[:3] if group), None) if match else None
    if match is None or label is None or label not in labels:
        if by_text is not None:
            return {by_text}
        return set() if _NEGATION.search(plain) else _mentioned(plain, choices)
    index = labels.index(label)
    rest = match["rest"].lstrip(").:,- \n")
    if not rest:
        return {index} if by_text in (None, index) else {index, by_text}
    if by_text is not None:
        return {by_text}
    other = _by_text(rest, choices)
    if other is not None:
        return {index, other}
    if re.match(r"(?:and|or|nor|&|/|,)\b|[A-Z](?![\w'’])", rest):
        return {index} | _letters(rest, labels)
    article = label in _ENGLISH and match["rest"][:1] == " " and "(" not in plain[:1]
    return _mentioned(plain, choices) if article else {index}


def _mentioned(text: str, choices: Sequence[str]) -> set[int]:
    """Options named in a sentence: by letters in brackets, else letters, else their texts."""
    labels = LABELS[: len(choices)]
    bracketed = {labels.index(m) for m in _BRACKETED.findall(text) if m in labels}
    if bracketed:
        return bracketed
    letters = _letters(text, labels)
    if letters:
        return letters
    folded = fold(text)
    found = [
        (index, fold(choice))
        for index, choice in enumerate(choices)
        if re.search(rf"(?<!\w){re.escape(fold(choice))}(?!\w)", folded)
    ]
    return {  # "12 cm" also contains "2 cm" or "cm": the longer text is what was said
        index
        for index, choice in found
        if not any(choice != other and choice in other for _, other in found)
    }


def _letters(text: str, labels: str) -> set[int]:
    return {
        labels.index(match[1])
        for match in _STANDING.finditer(text)
        if match[1] in labels
        and not (match[1] in _ENGLISH and re.match(r"\s+[a-z]", text[match.end() :]))
    }


def _by_text(text: str, choices: Sequence[str]) -> int | None:
    if text in choices:
        return choices.index(text)
    folded = fold(text)
    same = [index for index, choice in enumerate(choices) if fold(choice) == folded]
    if not same:
        value = number(normalize(text))
        if value is not None:
            same = [i for i, choice in enumerate(choices) if number(normalize(choice)) == value]
    return same[0] if len(same) == 1 else None


def _plain(text: str) -> str:
    plain = text.strip()
    while True:
        shorter = _WRAPPERS.sub(r"\1", plain).replace("$", "").strip(" *_\"'`\n").rstrip(".")
        if shorter == plain:
            return plain
        plain = shorter
