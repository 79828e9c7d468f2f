"""The judge that compares two texts."""

from __future__ import annotations

from verifiers import templates
from verifiers.grader_specs import StringCheckSpec
from verifiers.verdict import Verdict, clip


def judge(spec: StringCheckSpec, completion: str) -> Verdict:
    """Whether the operation holds; `malformed` when the completion lacks what is compared."""
    try:
        text, reference = templates.compared(spec.input, spec.reference, spec.item, completion)
    except templates.SampleError as error:
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
