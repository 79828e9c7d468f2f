"""The judge of JSON answers: strict JSON that fits a schema and equals what is expected."""

from __future__ import annotations

from verifiers import compiled_schema, strict_json
from verifiers.extract import ExtractionError, extract
from verifiers.spec import SchemaSpec
from verifiers.strict_json import StrictJsonError
from verifiers.verdict import Verdict, clip


def judge(spec: SchemaSpec, completion: str) -> Verdict:
    """`malformed` when the answer is no strict JSON, `wrong` when it breaks the schema or
    differs from `expected`; evidence has the JSON pointer of the place."""
    evidence: dict[str, object] = {}
    try:
        extraction = extract(spec.extract, completion)
        evidence = {"extracted": clip(extraction.answers[-1]), "found": extraction.where}
        values = [strict_json.loads(answer) for answer in extraction.answers]
    except (ExtractionError, StrictJsonError) as error:
        return Verdict(0.0, "malformed", evidence | {"reason": clip(str(error))})
    value = values[0]
    if any(not strict_json.equal(value, other) for other in values[1:]):
        reason = f"{len(values)} different final answers"
        return Verdict(0.0, "malformed", evidence | {"reason": reason})
    validator = compiled_schema.compile_schema(spec.schema_text)
    violation = compiled_schema.violation(validator, value)
    if violation is not None:
        evidence |= {
            "pointer": clip(violation.pointer),
            "keyword": violation.keyword,
            "reason": clip(violation.message),
        }
        return Verdict(0.0, "wrong", evidence)
    if spec.has_expected:
        pointer = strict_json.difference(spec.expected, value)
        if pointer is not None:
            evidence |= {"pointer": clip(pointer), "reason": "differs from the expected value"}
            return Verdict(0.0, "wrong", evidence)
    return Verdict(1.0, "correct", evidence)
