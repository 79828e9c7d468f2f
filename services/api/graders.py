"""The routes of graders: try one on a sample, and check one, in OpenAI's form."""

from __future__ import annotations

import logging
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from services.api.audited import changes_nothing
from services.api.auth import StoreParam, allowed
from services.api.judging import Judging
from services.errors import InvalidRequest, Problem
from verifiers import model_endpoint
from verifiers.judge import MAX_COMPLETION
from verifiers.openai_graders import asks_a_model, name_of, spec_of, type_of
from verifiers.spec import AnySpec, MultiSpec, SpecError
from verifiers.verdict import Status, Verdict

router = APIRouter(
    prefix="/v1/fine_tuning/alpha/graders",
    tags=["Graders"],
    dependencies=[Depends(allowed("verify")), Depends(changes_nothing)],
)

_log = logging.getLogger(__name__)

Grader = Annotated[
    dict[str, Any],
    Field(
        description="One of OpenAI's graders (`string_check`, `text_similarity`, `python`, "
        "`multi`; `score_model` and `label_model` where the operator names an endpoint that has "
        "models), one of ours (`type` is a kind of verifier), or a verifier spec (`kind`).",
        examples=[
            {
                "type": "string_check",
                "name": "city",
                "input": "{{ sample.output_text }}",
                "reference": "{{ item.city }}",
                "operation": "eq",
            }
        ],
    ),
]
Item = Annotated[
    dict[str, Any] | None,
    Field(description="What `item` stands for in templates.", examples=[{"city": "Oslo"}]),
]


class RunGrader(BaseModel):
    """A grader and a sample to run it on."""

    model_config = ConfigDict(extra="forbid")

    grader: Grader
    model_sample: str = Field(
        max_length=MAX_COMPLETION, description="What the model said.", examples=["Oslo"]
    )
    item: Item = None


class ValidateGrader(BaseModel):
    """A grader to check."""

    model_config = ConfigDict(extra="forbid")

    grader: Grader
    item: Item = None


class GraderErrors(BaseModel):
    """What went wrong, as OpenAI names it."""

    formula_parse_error: bool = Field(description="`calculate_output` has no value in [0, 1].")
    sample_parse_error: bool = Field(
        description="The sample has no answer where one is looked for."
    )
    truncated_observation_error: bool = Field(default=False, description="Always false.")
    unresponsive_reward_error: bool = Field(description="Grading took too long.")
    invalid_variable_error: bool = Field(
        default=False, description="Always false: an unknown variable is refused with 422."
    )
    other_error: bool = Field(description="A fault that is not the sample's.")
    python_grader_server_error: bool = Field(description="The sandbox failed, not the function.")
    python_grader_server_error_type: str | None = Field(description="What happened to it.")
    python_grader_runtime_error: bool = Field(description="The function raised, or gave no score.")
    python_grader_runtime_error_details: str | None = Field(description="What it raised.")
    model_grader_server_error: bool = Field(description="The model that judges gave no answer.")
    model_grader_refusal_error: bool = Field(description="It refused to judge.")
    model_grader_parse_error: bool = Field(description="Its answer holds no verdict.")
    model_grader_server_error_details: str | None = Field(description="Why it gave no answer.")


class GraderMetadata(BaseModel):
    """How the reward came about."""

    name: str = Field(description="The grader's name.")
    type: str = Field(description="Its type.")
    errors: GraderErrors = Field(description="What went wrong.")
    execution_time: float = Field(description="Seconds of grading, without waiting.")
    scores: dict[str, float | None] = Field(description="Score of each grader inside.")
    token_usage: int | None = Field(
        description="Tokens that models took to judge; null when none was asked."
    )
    sampled_model_name: str | None = Field(description="The model that was asked, if one was.")
    status: Status = Field(description="The verdict's status.")
    evidence: dict[str, Any] = Field(description="What a person needs to see of the verdict.")


class GraderRun(BaseModel):
    """What a grader says of a sample."""

    reward: float | None = Field(
        description="The score; null when the grader failed: a fault is never a reward of zero."
    )
    metadata: GraderMetadata = Field(description="How it came about.")
    sub_rewards: dict[str, float | None] = Field(description="Score of each grader inside.")
    model_grader_token_usage_per_model: dict[str, dict[str, int]] = Field(
        description="What each model that was asked took: `prompt_tokens`, `completion_tokens`, "
        "`total_tokens`."
    )


class ValidGrader(BaseModel):
    """A grader that can be used."""

    grader: dict[str, Any] = Field(description="The grader as it was given.")


def _judging(request: Request) -> Judging:
    return request.app.state.judging


JudgingParam = Annotated[Judging, Depends(_judging)]


@router.post("/run", summary="Run a grader on a sample")
async def run_grader(body: RunGrader, judging: JudgingParam, store: StoreParam) -> GraderRun:
    """Judge one sample, as a job with this grader would."""
    spec = judging.admitted(_spec(body.grader, body.item or {}))
    verdict = await judging.judge(spec, body.model_sample, store.tell_verifiers)
    scores = {str(part["part"]): part["score"] for part in verdict.evidence.get("parts", ())}
    usage = _usage(verdict)
    return GraderRun(
        reward=verdict.score,
        sub_rewards=scores,
        model_grader_token_usage_per_model=usage,
        metadata=GraderMetadata(
            name=name_of(body.grader),
            type=type_of(body.grader),
            errors=_errors(spec, verdict),
            execution_time=verdict.wall_ms / 1e3,
            scores=scores,
            token_usage=sum(each.get("total_tokens", 0) for each in usage.values())
            if usage
            else None,
            sampled_model_name=next(iter(usage), None),
            status=verdict.status,
            evidence=_shown(verdict),
        ),
    )


@router.post("/validate", summary="Check a grader")
async def validate_grader(body: ValidateGrader, judging: JudgingParam) -> ValidGrader:
    """Answer with the grader when it can be used, for the item if one is given."""
    if body.item is not None:
        judging.admitted(_spec(body.grader, body.item))
    else:
        try:
            unasked = model_endpoint.missing() if asks_a_model(body.grader) else None
        except SpecError as error:
            raise InvalidRequest([Problem("grader", str(error))]) from None
        if unasked is not None:
            told = f"type: a {type_of(body.grader)} grader {unasked}"
            raise InvalidRequest([Problem("grader", told)])
    return ValidGrader(grader=body.grader)


def _spec(grader: dict[str, Any], item: dict[str, Any]) -> AnySpec:
    try:
        return spec_of(grader, item)
    except SpecError as error:
        raise InvalidRequest([Problem("grader", str(error))]) from None


def _errors(spec: AnySpec, verdict: Verdict) -> GraderErrors:
    fault = verdict.status == "infra_error"
    evidence, kind = verdict.evidence, spec.kind
    parts = evidence.get("parts", ())
    failed = parts[-1] if fault and parts and parts[-1]["status"] == "infra_error" else None
    if failed is not None and isinstance(spec, MultiSpec):
        evidence, kind = evidence["first_failure"], spec.graders[failed["part"]].kind
    asked = evidence.get("fault") if fault and kind in ("score_model", "label_model") else None
    ran = kind == "python" and fault and "extracted" in evidence
    formula = fault and kind == "multi" and bool(parts) and failed is None
    reason = str(evidence.get("reason", "")) or None
    return GraderErrors(
        formula_parse_error=formula,
        sample_parse_error=verdict.status == "malformed",
        unresponsive_reward_error=verdict.status == "timeout",
        other_error=fault and kind != "python" and not formula and asked is None,
        python_grader_server_error=fault and kind == "python" and not ran,
        python_grader_server_error_type="sandbox"
        if fault and kind == "python" and not ran
        else None,
        python_grader_runtime_error=ran,
        python_grader_runtime_error_details=reason if ran else None,
        model_grader_server_error=asked == "server",
        model_grader_refusal_error=asked == "refusal",
        model_grader_parse_error=asked == "parse",
        model_grader_server_error_details=reason if asked == "server" else None,
    )


def _usage(verdict: Verdict) -> dict[str, dict[str, int]]:
    """Tokens by the model that took them, of this verdict and those inside."""
    usage: dict[str, dict[str, int]] = {}
    for evidence in (verdict.evidence, *verdict.evidence.get("parts", ())):
        if "model" in evidence:
            total = usage.setdefault(evidence["model"], {})
            for name, count in evidence.get("tokens", {}).items():
                total[name] = total.get(name, 0) + count
    return usage


def _shown(verdict: Verdict) -> dict[str, Any]:
    """The evidence; what a broken verifier says of itself is for the log alone."""
    reason = str(verdict.evidence.get("reason", ""))
    if verdict.status == "infra_error" and "Traceback" in reason:
        _log.error("a verifier failed: %s", reason)
        return {"reason": "the verifier failed; the service's log says why"}
    return dict(verdict.evidence)
