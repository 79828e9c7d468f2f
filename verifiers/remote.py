"""The judge that asks an HTTP grader of the user's own.

    POST <url>
    Strop-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>">
    {"completion": "...", "item": ...}

    200 {"score": 0.5, "evidence": "..."}          score in [0, 1]; 1 is correct

The signing key comes from the environment (STROP_GRADER_SECRET_<NAME>), never from a task.
It is reached by verifiers/guarded_http.py; STROP_GRADER_ALLOW lists the private networks where
it may be. Whatever goes wrong there is never the completion's fault: `infra_error`, no score.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from typing import Any

from verifiers import guarded_http, strict_json
from verifiers.asking import AskError, ask
from verifiers.remote_spec import RemoteSpec
from verifiers.verdict import Verdict, clip

SECRET_PREFIX = "STROP_GRADER_SECRET_"
ALLOWED = guarded_http.Allowed("STROP_GRADER_ALLOW")
MAX_ANSWER = 2**16


def judge(spec: RemoteSpec, completion: str) -> Verdict:
    """The grader's score of a completion."""
    evidence: dict[str, object] = {"grader": spec.url}
    try:
        score, said = _ask(spec, completion)
    except AskError as error:
        return Verdict(None, "infra_error", evidence | {"reason": clip(str(error))})
    if said is not None:
        evidence["evidence"] = clip(said if isinstance(said, str) else strict_json.dumps(said))
    return Verdict(score, "correct" if score == 1.0 else "wrong", evidence)


def _ask(spec: RemoteSpec, completion: str) -> tuple[float, Any]:
    body = _body(spec, completion)
    key = _key(spec.secret)

    def headers() -> dict[str, str]:
        return {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Strop-Signature": sign(key, body, int(time.time())),
            "Strop-Request-Id": hashlib.sha256(body).hexdigest()[:32],
        }

    answer = ask(
        spec.url,
        body,
        headers,
        deadline_s=spec.deadline_s,
        retries=spec.retries,
        allowed=ALLOWED,
        max_answer=MAX_ANSWER,
    )
    return _read(answer)


def _body(spec: RemoteSpec, completion: str) -> bytes:
    text = strict_json.dumps({"completion": completion, "item": spec.item})
    return text.encode("utf-8", "replace")  # a lone surrogate becomes a question mark


def _key(name: str) -> bytes:
    key = os.environ.get(SECRET_PREFIX + name.upper())
    if not key:
        raise AskError(f"the environment has no {SECRET_PREFIX}{name.upper()} to sign with")
    return key.encode()


def sign(key: bytes, body: bytes, at: int) -> str:
    """The signature header's value: proof of who sent the body, and when."""
    digest = hmac.new(key, f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def _read(answer: bytes) -> tuple[float, Any]:
    try:
        data = strict_json.loads(answer.decode())
    except (UnicodeDecodeError, strict_json.StrictJsonError) as error:
        raise AskError(f"an answer that is no JSON: {error}") from None
    score = data.get("score") if isinstance(data, dict) else None
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise AskError(f"an answer without a score in [0, 1]: {clip(answer.decode())}")
    return float(score), data.get("evidence") if isinstance(data, dict) else None
