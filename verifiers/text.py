"""The judge of plain text: equal, a number within a tolerance, or a regular expression.

Patterns run on RE2, whose time is linear in the text whatever the pattern. A number is
read as the math judge reads one, so that `3,141.5`, `\\frac{1}{2}` and `x = 2` all serve.
"""

from __future__ import annotations

import unicodedata
from fractions import Fraction

from verifiers import algebra, math, patterns
from verifiers.answers import Equation, Scalar
from verifiers.expression import TooLargeError, UnreadableError
from verifiers.extract import Extraction, ExtractionError, extract
from verifiers.spec import TextSpec
from verifiers.strict_json import StrictJsonError
from verifiers.verdict import Verdict, clip


def judge(spec: TextSpec, completion: str) -> Verdict:
    """Whether the completion's final answer is the text, number or pattern asked for."""
    evidence: dict[str, object] = {"gold": clip(spec.gold)}
    try:
        extraction = extract(spec.extract, completion)
        evidence |= {"extracted": clip(" | ".join(extraction.answers)), "found": extraction.where}
        correct = _agrees(spec, extraction)
    except TooLargeError as error:
        return Verdict(0.0, "wrong", evidence | {"reason": f"out of bounds: {error}"})
    except (ExtractionError, StrictJsonError, UnreadableError, math.HedgeError) as error:
        return Verdict(0.0, "malformed", evidence | {"reason": clip(str(error))})
    return Verdict(1.0, "correct", evidence) if correct else Verdict(0.0, "wrong", evidence)


def _agrees(spec: TextSpec, extraction: Extraction) -> bool:
    if spec.number is not None:
        # As it was written: 3.13 lies within 0.01 of 3.14, though not as binary fractions.
        gold, absolute, relative = (
            Fraction(str(value)) for value in (spec.number, spec.tolerance, spec.relative_tolerance)
        )
        return abs(_number(extraction) - gold) <= max(absolute, relative * abs(gold))
    said = _only(spec, extraction)
    if spec.regex is not None:
        try:
            pattern = patterns.compile_pattern(spec.regex, ignore_case=spec.ignore_case)
            return patterns.matches(pattern, said)
        except UnicodeEncodeError:
            raise ExtractionError("a lone surrogate, which is no text") from None
    return said == _fold(spec, spec.gold)


def _only(spec: TextSpec, extraction: Extraction) -> str:
    answers = extraction.answers
    if extraction.where == "phrase":  # the answer is **Paris**
        answers = tuple(answer.strip(" *_\"'`“”") for answer in answers)
    distinct = {_fold(spec, answer): None for answer in answers}
    if len(distinct) > 1:
        raise math.HedgeError(f"{len(distinct)} different final answers")
    return next(iter(distinct))


def _fold(spec: TextSpec, text: str) -> str:
    """One spelling: NFC and single spaces for a text; a pattern sees what was written."""
    if spec.regex is not None:
        return text
    text = " ".join(unicodedata.normalize("NFC", text).split())
    return text.casefold() if spec.ignore_case else text


def _number(extraction: Extraction) -> Fraction:
    gold = Scalar("0", algebra.number(0))
    answer = math.final_answer(gold, extraction)
    if isinstance(answer, Equation):
        answer = answer.right
    value = answer.value if isinstance(answer, Scalar) else None
    if value is None:
        raise ExtractionError("no number")
    exact = value.rational
    if exact is not None:
        return exact
    approximate = algebra.approximate(value)
    if approximate is None:
        raise ExtractionError("no number")
    return Fraction(approximate)
