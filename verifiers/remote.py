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
from verifiers.remote_spec import RemoteSpec
from verifiers.verdict import Verdict, clip

SECRET_PREFIX = "STROP_GRADER_SECRET_"
ALLOWED = guarded_http.Allowed("STROP_GRADER_ALLOW")
MAX_ANSWER = 2**16
FIRST_PAUSE_S = 0.1
_RETRIED = frozenset((408, 425, 429, 500, 502, 503, 504))


class GraderError(Exception):
    """The grader gave no usable answer."""


class _PassingError(GraderError):
    """What another attempt may mend."""


def judge(spec: RemoteSpec, completion: str) -> Verdict:
    """The grader's score of a completion."""
    evidence: dict[str, object] = {"grader": spec.url}
    try:
        score, said = _ask(spec, completion)
    except GraderError as error:
        return Verdict(None, "infra_error", evidence | {"reason": clip(str(error))})
    if said is not None:
        evidence["evidence"] = clip(said if isinstance(said, str) else strict_json.dumps(said))
    return Verdict(score, "correct" if score == 1.0 else "wrong", evidence)


def _ask(spec: RemoteSpec, completion: str) -> tuple[float, Any]:
    deadline = time.monotonic() + spec.deadline_s
    body = _body(spec, completion)
    key = _key(spec.secret)
    pause = FIRST_PAUSE_S
    for attempt in range(spec.retries + 1):
        try:
            return _attempt(spec.url, body, key, deadline)
        except _PassingError as error:
            last = attempt == spec.retries
            if last or time.monotonic() + pause >= deadline:
                raise GraderError(f"{error} (attempt {attempt + 1})") from None
        time.sleep(pause)
        pause *= 2
    raise AssertionError("the last attempt returns or raises")


def _body(spec: RemoteSpec, completion: str) -> bytes:
    text = strict_json.dumps({"completion": completion, "item": spec.item})
    return text.encode("utf-8", "replace")  # a lone surrogate becomes a question mark


def _key(name: str) -> bytes:
    key = os.environ.get(SECRET_PREFIX + name.upper())
    if not key:
        raise GraderError(f"the environment has no {SECRET_PREFIX}{name.upper()} to sign with")
    return key.encode()


def sign(key: bytes, body: bytes, at: int) -> str:
    """The signature header's value: proof of who sent the body, and when."""
    digest = hmac.new(key, f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def _attempt(url: str, body: bytes, key: bytes, deadline: float) -> tuple[float, Any]:
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Strop-Signature": sign(key, body, int(time.time())),
        "Strop-Request-Id": hashlib.sha256(body).hexdigest()[:32],
    }
    try:
        status, answer = guarded_http.post(
            url, body, headers, deadline=deadline, allowed=ALLOWED, max_answer=MAX_ANSWER
        )
    except guarded_http.BlockedError as error:
        raise GraderError(str(error)) from None
    except guarded_http.GuardedError as error:
        raise _PassingError(str(error)) from None
    return _read(status, answer)


def _read(status: int, answer: bytes) -> tuple[float, Any]:
    if status in _RETRIED:
        raise _PassingError(f"status {status}")
    if status != 200:
        moved = " (redirects are not followed)" if 300 <= status < 400 else ""
        raise GraderError(f"status {status}{moved}")
    if len(answer) > MAX_ANSWER:
        raise GraderError(f"an answer of more than {MAX_ANSWER} bytes")
    try:
        data = strict_json.loads(answer.decode())
    except (UnicodeDecodeError, strict_json.StrictJsonError) as error:
        raise GraderError(f"an answer that is no JSON: {error}") from None
    score = data.get("score") if isinstance(data, dict) else None
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise GraderError(f"an answer without a score in [0, 1]: {clip(answer.decode())}")
    return float(score), data.get("evidence") if isinstance(data, dict) else None
