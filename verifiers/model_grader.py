"""The judges that ask a model: a score in a range, or one of several labels.

    POST <STROP_GRADER_MODEL_URL>/chat/completions
    {"model", "messages", "response_format": {"type": "json_schema", ...}, ...}

The model is held to JSON, `{"steps": [...], "result": 0.5}` as OpenAI's graders are, or
`{"steps": [...], "label": "good"}`. Whatever goes wrong there, an answer that is none included,
is never the completion's fault: `infra_error`, no score; the evidence's `fault` says which:
`server`, `refusal` or `parse`.
"""

from __future__ import annotations

from typing import Any, Literal, cast

from verifiers import model_endpoint, strict_json, templates
from verifiers.asking import AskError, ask
from verifiers.extract import ExtractionError, Text, extract
from verifiers.model_specs import ModelSpec, ScoreModelSpec
from verifiers.strict_json import StrictJsonError
from verifiers.verdict import Verdict, clip

MAX_STEPS = 8
_STEP = {
    "type": "object",
    "properties": {"description": {"type": "string"}, "conclusion": {"type": "string"}},
    "required": ["description", "conclusion"],
    "additionalProperties": False,
}


class _NoVerdictError(Exception):
    """The model said nothing of use, which is its own fault."""

    def __init__(self, fault: Literal["refusal", "parse"], message: str) -> None:
        super().__init__(message)
        self.fault = fault


def judge(spec: ModelSpec, completion: str) -> Verdict:
    """What the model says; `malformed` when the completion lacks what it is asked about."""
    try:
        sample = templates.sample_of(extract(Text(), completion).answers[-1])
        body = strict_json.dumps(_request(spec, sample)).encode("utf-8", "replace")
    except (ExtractionError, StrictJsonError, templates.SampleError) as error:
        return Verdict(0.0, "malformed", {"reason": clip(str(error))})
    evidence: dict[str, Any] = {"model": spec.model}
    try:
        answer = _chat(spec, body)
    except (AskError, model_endpoint.NoEndpointError) as error:
        reason = str(error)
        if isinstance(error, AskError) and (told := _told(error.body)):
            reason = f"{reason}: {told}"
        return Verdict(None, "infra_error", evidence | {"fault": "server", "reason": clip(reason)})
    evidence |= {"tokens": _tokens(answer)}
    try:
        said = _said(answer)
        evidence |= {"said": clip(strict_json.dumps(said))}
        score, passed = _score(spec, said)
    except _NoVerdictError as error:
        return Verdict(
            None, "infra_error", evidence | {"fault": error.fault, "reason": clip(str(error))}
        )
    return Verdict(score, "correct" if passed else "wrong", evidence)


def _request(spec: ModelSpec, sample: dict[str, Any]) -> dict[str, Any]:
    name, verdict = _asked_for(spec)
    schema = {
        "type": "object",
        "properties": {
            "steps": {"type": "array", "items": _STEP, "maxItems": MAX_STEPS},
            name: verdict,
        },
        "required": ["steps", name],
        "additionalProperties": False,
    }
    how = spec.sampling_params.model_dump(exclude_none=True)
    return {
        "model": spec.model,
        "messages": [
            {
                # The name that every server of OpenAI's dialect knows.
                "role": "system" if message.role == "developer" else message.role,
                "content": templates.render(message.content, spec.item, sample),
            }
            for message in spec.input
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "verdict", "schema": schema, "strict": True},
        },
        "max_completion_tokens": how.pop("max_completions_tokens"),
        **how,
    }


def _asked_for(spec: ModelSpec) -> tuple[str, dict[str, Any]]:
    """What the answer calls the verdict, and which values it may have."""
    if isinstance(spec, ScoreModelSpec):
        low, high = spec.range
        told = f"The score, from {low:g} to {high:g}."
        return "result", {"type": "number", "minimum": low, "maximum": high, "description": told}
    return "label", {"type": "string", "enum": list(spec.labels)}


def _chat(spec: ModelSpec, body: bytes) -> dict[str, Any]:
    """The chat completion. Raises AskError and NoEndpointError."""
    where = model_endpoint.endpoint()
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json",
        **where.headers,
    }
    answer = ask(
        where.url,
        body,
        lambda: headers,
        deadline_s=spec.deadline_s,
        retries=spec.retries,
        allowed=None,
    )
    try:
        data = strict_json.loads(answer.decode(), surrogates=True)
    except (UnicodeDecodeError, StrictJsonError) as error:
        raise AskError(f"an answer that is no JSON: {error}") from None
    return _object(data)


def _told(body: bytes) -> str:
    """Why the endpoint refused, in its own words; a key that it repeats is left out."""
    try:
        error = _object(_object(strict_json.loads(body.decode())).get("error"))
    except (UnicodeDecodeError, StrictJsonError):
        return ""
    message = error.get("message")
    told = message if isinstance(message, str) else ""
    return model_endpoint.without_key(told)


def _said(answer: dict[str, Any]) -> dict[str, Any]:
    """The object that the model wrote. Raises _NoVerdictError."""
    choices = answer.get("choices")
    choice = _object(cast("list[Any]", choices)[0] if isinstance(choices, list) and choices else 0)
    message = _object(choice.get("message"))
    if refusal := message.get("refusal"):
        raise _NoVerdictError("refusal", f"the model refused: {refusal}")
    text = message.get("content")
    if not isinstance(text, str):
        raise _NoVerdictError("parse", "an answer without a text")
    try:
        return _object(strict_json.loads(text))
    except StrictJsonError as error:
        cut = " (its tokens ran out)" if choice.get("finish_reason") == "length" else ""
        raise _NoVerdictError("parse", f"no verdict{cut}: {error}: {clip(text)}") from None


def _score(spec: ModelSpec, said: dict[str, Any]) -> tuple[float, bool]:
    """The score in [0, 1], and whether the completion is correct. Raises _NoVerdictError."""
    if isinstance(spec, ScoreModelSpec):
        low, high = spec.range
        result = said.get("result")
        if isinstance(result, bool) or not isinstance(result, int | float):
            raise _NoVerdictError("parse", "an answer without a number as `result`")
        if not low <= result <= high:
            raise _NoVerdictError("parse", f"result {result!r} lies outside of {list(spec.range)}")
        score = min(1.0, (result - low) / (high - low))
        return score, score >= spec.pass_threshold
    label = said.get("label")
    if label not in spec.labels:
        raise _NoVerdictError("parse", f"label {label!r} is none of {list(spec.labels)}")
    passed = label in spec.passing_labels
    return float(passed), passed


def _tokens(answer: dict[str, Any]) -> dict[str, int]:
    """Tokens that the answer cost, as its server counts them."""
    usage = _object(answer.get("usage"))
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {name: usage[name] for name in names if isinstance(usage.get(name), int)}


def _object(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
