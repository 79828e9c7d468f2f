"""The judge of several judges: a weighted sum, or all of them, behind a gate perhaps.

A fault of ours in one part is a fault of the whole: a reward with a part missing would be
another reward. Parts after a closed gate are not judged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from verifiers.spec import AnySpec, CompositeSpec, Part
from verifiers.verdict import Verdict

JudgePart = Callable[[AnySpec, str], Verdict]


def judge(spec: CompositeSpec, completion: str, judge_part: JudgePart) -> Verdict:
    """The verdict of the parts together; evidence has the score and status of each."""
    seen: list[dict[str, Any]] = []
    cpu_ms = 0.0

    def part_verdict(part: AnySpec, name: str) -> Verdict:
        nonlocal cpu_ms
        verdict = judge_part(part, completion)
        cpu_ms += verdict.cpu_ms
        seen.append({"part": name, "score": verdict.score, "status": verdict.status})
        return verdict

    if spec.gate is not None:
        gate = part_verdict(spec.gate, "gate")
        if gate.status != "correct":
            return _closed(gate, seen)
    verdicts: list[Verdict] = []
    for number, part in enumerate(spec.parts):
        verdict = part_verdict(part.verifier, _name(part, number))
        if verdict.status == "infra_error":
            return replace(verdict, evidence=_evidence(seen, verdict), cpu_ms=cpu_ms)
        verdicts.append(verdict)
    return replace(_together(spec, verdicts, seen), cpu_ms=cpu_ms)


def _name(part: Part, number: int) -> str:
    return part.name or f"{number}: {part.verifier.kind}"


def _closed(gate: Verdict, seen: list[dict[str, Any]]) -> Verdict:
    evidence = _evidence(seen, gate) | {"reason": "the gate is closed"}
    if gate.status in ("infra_error", "timeout"):
        return replace(gate, evidence=evidence)
    return Verdict(0.0, "malformed", evidence, gate.cpu_ms)


def _together(spec: CompositeSpec, verdicts: list[Verdict], seen: list[dict[str, Any]]) -> Verdict:
    statuses = [verdict.status for verdict in verdicts]
    failed = next((verdict for verdict in verdicts if verdict.status != "correct"), None)
    if failed is None:
        return Verdict(1.0, "correct", {"parts": seen})
    if spec.combine == "all":
        score = 0.0
    else:
        total = sum(part.weight for part in spec.parts)
        score = (
            sum(
                part.weight * (verdict.score or 0.0)
                for part, verdict in zip(spec.parts, verdicts, strict=True)
            )
            / total
        )
    status = "timeout" if "timeout" in statuses else "wrong"
    if all(status == "malformed" for status in statuses):
        status = "malformed"
    return Verdict(min(1.0, max(0.0, score)), status, _evidence(seen, failed))


def _evidence(seen: list[dict[str, Any]], failed: Verdict) -> dict[str, Any]:
    return {"parts": seen, "first_failure": dict(failed.evidence)}
