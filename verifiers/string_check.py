"""The judge that compares two texts."""

from __future__ import annotations

from verifiers import templates
from verifiers.extract import ExtractionError, Text, extract
from verifiers.grader_specs import StringCheckSpec
from verifiers.strict_json import StrictJsonError
from verifiers.verdict import Verdict, clip


def judge(spec: StringCheckSpec, completion: str) -> Verdict:
    """Whether the operation holds; `malformed` when the completion lacks what is compared."""
    try:
        sample = templates.sample_of(extract(Text(), completion).answers[-1])
        text = templates.render(spec.input, spec.item, sample)
        reference = templates.render(spec.reference, spec.item, sample)
    except (ExtractionError, StrictJsonError, templates.SampleError) as error:
        return Verdict(0.0, "malformed", {"reason": clip(str(error))})
    match spec.operation:
        case "eq":
            holds = text == reference
        case "ne":
            holds = text != reference
        case "like":
            holds = reference in text
        case "ilike":
            holds = reference.casefold() in text.casefold()
    evidence = {"extracted": clip(text), "gold": clip(reference), "operation": spec.operation}
    return Verdict(float(holds), "correct" if holds else "wrong", evidence)
