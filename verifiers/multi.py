"""The judge of a formula over other judges' scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from verifiers.formula import Formula, FormulaError
from verifiers.spec import AnySpec, MultiSpec
from verifiers.verdict import Verdict, clip


def judge(
    spec: MultiSpec, completion: str, judge_part: Callable[[AnySpec, str], Verdict]
) -> Verdict:
    """The formula's value as the score; evidence has the score and status of each grader.

    A fault of ours in one is a fault of the whole, and so is a value outside [0, 1].
    """
    seen: list[dict[str, Any]] = []
    evidence: dict[str, Any] = {"parts": seen}
    scores: dict[str, float] = {}
    cpu_ms = 0.0
    for name, grader in spec.graders.items():
        verdict = judge_part(grader, completion)
        cpu_ms += verdict.cpu_ms
        asked = {
            key: verdict.evidence[key] for key in ("model", "tokens") if key in verdict.evidence
        }
        seen.append({"part": name, "score": verdict.score, "status": verdict.status, **asked})
        if verdict.status != "correct" and "first_failure" not in evidence:
            evidence["first_failure"] = dict(verdict.evidence)
        if verdict.score is None:
            reason = f"{name}: {verdict.evidence.get('reason', 'no verdict')}"
            evidence |= {"reason": clip(reason), "first_failure": dict(verdict.evidence)}
            return Verdict(None, "infra_error", evidence, cpu_ms)
        scores[name] = verdict.score
    try:
        score = Formula(spec.calculate_output).value(scores)
        if not 0.0 <= score <= 1.0:
            raise FormulaError(f"gives {score!r}; a score lies in [0, 1]")
    except FormulaError as error:
        evidence["reason"] = clip(f"calculate_output {error}")
        return Verdict(None, "infra_error", evidence, cpu_ms)
    statuses = {part["status"] for part in seen}
    verdict = Verdict(score, "wrong", evidence, cpu_ms)
    if score >= spec.pass_threshold:
        return replace(verdict, status="correct")
    if "timeout" in statuses:
        return replace(verdict, status="timeout")
    return replace(verdict, status="malformed") if statuses == {"malformed"} else verdict
