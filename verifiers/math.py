"""The judge of mathematical answers: extract, read, compare.

Exact arithmetic decides most answers in microseconds; only what it leaves undecided goes
to math-verify, which is imported on first use because it brings sympy: in a service it
lives in worker processes alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from verifiers import answers, reading
from verifiers.answers import Answer, Name, Parts, Scalar
from verifiers.expression import TooLargeError, UnreadableError
from verifiers.extract import Extraction, ExtractionError, extract
from verifiers.notation import normalize
from verifiers.reading import ProseError
from verifiers.spec import MathSpec
from verifiers.verdict import Verdict, clip

_NUMBER = re.compile(
    r"(?:(?<![\w)\]}.])[-−])?[$£€]?(?:\\[dt]?frac\{\d+\}\{\d+\}|\d+\s+\d+/\d+"
    r"|(?:\d+(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?|\.\d+)(?:\s*\\?%)?"
)
_WORKING = re.compile(  # 9 x 4 =, on the way to a result
    r"(?:[(]*[$£€]?\d[\d,]*(?:\.\d+)?%?[)]*\s*(?:[-+*/x×·÷−]|\\times|\\cdot|\\div)\s*)+"
    r"[(]*[$£€]?\d[\d,]*(?:\.\d+)?%?[)]*\s*=",
    re.IGNORECASE,
)
_AFTERTHOUGHT = re.compile(
    r"[,;]?\s+(?:because|since|which|so|as|where|when|for|by|therefore|i\.e\.)\s|[,;:]\s+(?!and\b|or\b)(?=[a-z]{3})|\s\("
)
_AFTER_ALL = re.compile(r"\s*\(\s*or\b")
_SO = re.compile(r"^\s*(?:so|thus|therefore|hence|then|finally|now)\b[\s,:]*", re.IGNORECASE)
_NEGATION = re.compile(r"\b(?:not|never|neither|nor|cannot|unknown)\b|n't\b", re.IGNORECASE)
_ALTERNATIVE = re.compile(r"\bor\b")


class HedgeError(ValueError):
    """Several different final answers."""


def judge(spec: MathSpec, completion: str) -> Verdict:
    """Whether the completion's final answer equals `spec.answer`."""
    evidence: dict[str, object] = {"gold": clip(spec.answer)}
    gold = read_gold(spec.answer)
    try:
        extraction = extract(spec.extract, completion)
        evidence |= {"extracted": clip(" | ".join(extraction.answers)), "found": extraction.where}
        answer = final_answer(gold, extraction)
    except TooLargeError as error:
        return Verdict(0.0, "wrong", evidence | {"reason": f"out of bounds: {error}"})
    except (ExtractionError, UnreadableError, HedgeError, ValueError) as error:
        return Verdict(0.0, "malformed", evidence | {"reason": clip(str(error))})
    evidence["extracted"] = clip(answer.text)
    symbolic = _Symbolic()
    correct = answers.same(gold, answer, symbolic)
    if symbolic.asked:
        evidence["method"] = "symbolic"
    return Verdict(1.0, "correct", evidence) if correct else Verdict(0.0, "wrong", evidence)


def final_answer(gold: Answer, extraction: Extraction) -> Answer:
    """The one answer that was found, of the kind that the gold leads one to expect.

    Raises ExtractionError, UnreadableError, TooLargeError, and HedgeError when several
    different answers were found.
    """
    return _one(gold, [_read(gold, text, extraction) for text in extraction.answers])


def read_gold(text: str) -> Answer:
    """The gold answer; words that form a sentence are compared as words."""
    try:
        return reading.read(text)
    except ProseError:
        return Name(normalize(text))
    except TooLargeError:
        return Scalar(normalize(text))


class _Symbolic:
    """math-verify, and whether it was needed."""

    asked = False

    def __call__(self, gold: str, answer: str) -> bool | None:
        from verifiers import symbolic

        self.asked = True
        return symbolic.decide(gold, answer)


def _read(gold: Answer, text: str, extraction: Extraction) -> Answer:
    if extraction.where == "unmarked":
        return _read_unmarked(gold, text)
    if extraction.where == "phrase":
        return _read_phrase(gold, text)
    try:
        return reading.read(text)
    except ProseError:
        return Name(normalize(text))
    except TooLargeError:
        if normalize(text) == gold.text:
            return gold
        raise


def _read_phrase(gold: Answer, phrase: str) -> Answer:
    """What `the answer is ...` goes on to say: an answer, or a sentence that holds one number."""
    head = _AFTERTHOUGHT.split(phrase, maxsplit=1)[0]
    if _AFTER_ALL.match(phrase[len(head) :]):
        raise HedgeError("alternatives where one answer was expected")
    for text in dict.fromkeys((phrase, head)):
        try:
            answer = reading.read(text)
        except (ProseError, UnreadableError):
            continue
        if not _says_more(answer, gold):
            return answer
    if isinstance(gold, Name):
        return Name(normalize(phrase))
    if _NEGATION.search(phrase):
        raise ExtractionError("the sentence says what the answer is not")
    numbers = list(dict.fromkeys(_NUMBER.findall(_WORKING.sub(" ", head))))
    if len(numbers) > 1:
        raise HedgeError("several numbers where one answer was expected")
    if not numbers:
        raise ExtractionError("no answer in the sentence")
    return reading.read(numbers[0])


def _says_more(answer: Answer, gold: Answer) -> bool:
    """Whether words stand beside the one number that is asked for: `half, 0.5`."""
    return (
        isinstance(gold, Scalar)
        and isinstance(answer, Parts)
        and answer.form == "list"
        and any(isinstance(item, Name) for item in answer.items)
    )


def _read_unmarked(gold: Answer, text: str) -> Answer:
    """The last line if it is an answer by itself, else the last number."""
    last = text.splitlines()[-1] if text else text
    try:
        answer = reading.read(_SO.sub("", last))
        if isinstance(gold, Name) or (
            not isinstance(answer, Name) and not _says_more(answer, gold)
        ):
            return answer
    except (ProseError, UnreadableError):
        pass
    numbers = _NUMBER.findall(text)
    if not numbers:
        raise ExtractionError("no box, no `####`, no `the answer is`, no number")
    return reading.read(numbers[-1])


def _one(gold: Answer, found: Sequence[Answer]) -> Answer:
    """The one answer that all of them are; the list of them when the gold is a list."""
    distinct: list[Answer] = []
    for answer in found:
        if not any(answers.same(other, answer, _Symbolic()) for other in distinct):
            distinct.append(answer)
    if len(distinct) > 1:
        if isinstance(gold, Parts) and gold.unordered and len(distinct) == len(gold.items):
            return Parts(", ".join(a.text for a in distinct), "list", tuple(distinct))
        raise HedgeError(f"{len(distinct)} different final answers")
    (only,) = distinct
    if _is_hedge(only) and not isinstance(gold, Parts):
        raise HedgeError("alternatives where one answer was expected")
    return only


def _is_hedge(answer: Answer) -> bool:
    return (
        isinstance(answer, Parts)
        and answer.form == "list"
        and _ALTERNATIVE.search(answer.text) is not None
    )
