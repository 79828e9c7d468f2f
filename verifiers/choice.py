"""The judge of multiple choice, as in MMMU and MathVista, without guessing.

Where MMMU's own parser picks at random, this judge says `malformed`.
"""

from __future__ import annotations

from verifiers.choices import LABELS, first_named, named
from verifiers.extract import ExtractionError, extract
from verifiers.spec import ChoiceSpec
from verifiers.strict_json import StrictJsonError
from verifiers.verdict import Verdict, clip


def judge(spec: ChoiceSpec, completion: str) -> Verdict:
    """Whether the completion names the right option and no other."""
    evidence: dict[str, object] = {"gold": LABELS[spec.index]}
    try:
        extraction = extract(spec.extract, completion)
    except (ExtractionError, StrictJsonError) as error:
        return Verdict(0.0, "malformed", evidence | {"reason": clip(str(error))})
    said = extraction.answers
    evidence["found"] = extraction.where
    if extraction.where == "unmarked":
        several = "\n" in said[0]
        whole = first_named(said[0], spec.choices) if several else named(said[0], spec.choices)
        options = whole or named(said[0].splitlines()[-1], spec.choices)
    else:
        options = {index for answer in said for index in named(answer, spec.choices)}
    evidence["extracted"] = clip(" | ".join(said))
    if len(options) != 1:
        labels = ", ".join(LABELS[index] for index in sorted(options))
        reason = f"several options: {labels}" if options else "no option is named"
        return Verdict(0.0, "malformed", evidence | {"reason": reason})
    (index,) = options
    evidence["chosen"] = LABELS[index]
    if index == spec.index:
        return Verdict(1.0, "correct", evidence)
    return Verdict(0.0, "wrong", evidence)
