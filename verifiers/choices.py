"""Options and their letters: which option a short text names.

An upper-case letter (`B`, `(B)`, `B. Paris`, `option B`) or an option's own text names
it, and a number or formula equal to that text. A lower-case letter names nothing: `a` is an
article and a variable.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence

from verifiers import answers, reading
from verifiers.answers import Answer, Name
from verifiers.expression import TooLargeError, UnreadableError

LABELS = string.ascii_uppercase

_WRAPPERS = re.compile(r"\\(?:text|textbf|mathrm|mathbf|boxed)\s*\{([^{}]*)\}")
_LABEL = r"(?:\(([A-Z])\)|\[([A-Z])\]|([A-Z]))"
_NAMED = re.compile(
    rf"(?:(?:[Oo]ption|[Cc]hoice|[Ll]etter)\s+)?{_LABEL}(?P<rest>(?:[).:,\s-].*)?)", re.DOTALL
)
_BRACKETED = re.compile(r"[(\[]([A-Z])[)\]]")
_STANDING = re.compile(r"(?<![\w'$\\])([A-Z])(?![\w'’])", re.ASCII)
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_NEGATION = re.compile(r"\b(?:not|neither|nor|except|never)\b|n't\b", re.IGNORECASE)
_REASON = re.compile(
    r"[,;.(]*\s+\(?(?:because|since|as|for|so|not|rather than|instead of|unlike|while)\b.*",
    re.DOTALL,
)
_SECOND_THOUGHT = re.compile(
    r"\b(?:no|wait|actually|sorry|correction|maybe|possibly|perhaps|hmm|or|and|alternatively)\b",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"\s*(?:is|was|can|could|would|must|should)(?:\s+(?:not\b|wrong|incorrect|false)|n't\b|not\b)"
)
MAX_FORMULA = 200
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


def first_named(text: str, choices: Sequence[str]) -> set[int]:
    """The option that the first line names by itself: an answer with an explanation below."""
    first, *_, last = text.splitlines()
    lead, end = _alone(first, choices), _alone(last, choices)
    if lead is None:
        return set()
    return {lead} if end is None else {lead, end}


def _alone(line: str, choices: Sequence[str]) -> int | None:
    """The option of a line that is a letter, an option's text, or both."""
    plain = _plain(line)
    match = _NAMED.fullmatch(plain)
    rest = match["rest"].lstrip(").:,- ") if match else ""
    if match and (not rest or _by_text(rest, choices) is not None):
        found = named(line, choices)
        return found.pop() if len(found) == 1 else None
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
        if (led := _led_by(plain, choices)) is not None:
            return {led}
        return set() if _NEGATION.search(plain) else _mentioned(plain, choices)
    index = labels.index(label)
    rest = match["rest"].lstrip(").:,- \n")
    if not rest:
        return {index} if by_text in (None, index) else {index, by_text}
    if by_text is not None:
        return {by_text}
    if _REFUSED.match(match["rest"].lstrip(")]")):
        return set()
    other = _by_text(rest, choices)
    if other is not None:
        return {index, other}
    if re.match(r"(?:and|or|nor|&|/|,)\b|[A-Z](?![\w'’])", rest):
        return {index} | _letters(rest, labels)
    if second := _SECOND_THOUGHT.search(_REASON.sub("", match["rest"])):
        return {index} | _mentioned(match["rest"][second.end() :], choices)
    article = label in _ENGLISH and match["rest"][:1] == " " and "(" not in plain[:1]
    return _mentioned(plain, choices) if article else {index}


def _led_by(text: str, choices: Sequence[str]) -> int | None:
    """The option whose text comes before a reason, or before a comma: `No, it is not`."""
    head = _by_text(_REASON.sub("", text), choices)
    if head is not None:
        return head
    lead, comma, rest = text.partition(", ")
    return _by_text(lead, choices) if comma and not _mentioned(rest, choices) else None


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
        and not (match[1] in _ENGLISH and re.match(r"\s+(?!and\b|or\b)[a-z]", text[match.end() :]))
    }


def _by_text(text: str, choices: Sequence[str]) -> int | None:
    if text in choices:
        return choices.index(text)
    folded = fold(text)
    same = [index for index, choice in enumerate(choices) if fold(choice) == folded]
    if not same:
        value = _formula(text)
        if value is not None:
            readable = [(index, _formula(choice)) for index, choice in enumerate(choices)]
            same = [i for i, option in readable if option and answers.same(option, value, _open)]
    return same[0] if len(same) == 1 else None


def _formula(text: str) -> Answer | None:
    """What a text with a digit or a command says, None when that is no formula."""
    if len(text) > MAX_FORMULA or not re.search(r"[\d\\]", text):
        return None
    try:
        answer = reading.read(text)
    except (reading.ProseError, UnreadableError, TooLargeError):
        return None
    return None if isinstance(answer, Name) else answer


def _open(_gold: str, _answer: str) -> None:
    """What exact arithmetic cannot tell is no option."""


def _plain(text: str) -> str:
    plain = "".join(map(_letter, text)) if not text.isascii() else text
    plain = plain.translate(_FULL_WIDTH).strip()
    while True:
        shorter = _WRAPPERS.sub(r"\1", plain).replace("$", "").strip(" *_\"'`\n").rstrip(".")
        if shorter == plain:
            return plain
        plain = shorter


def _letter(character: str) -> str:
    """A letter in a circle or of another typeface, as the plain capital it stands for."""
    plain = unicodedata.normalize("NFKC", character)
    return plain if len(plain) == 1 and plain in LABELS else character
