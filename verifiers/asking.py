"""Asking a server that gives verdicts: attempts with pauses, under one deadline.

What another attempt may mend (no connection, 429, 5xx) is tried again, after the pause that
the server asks for or one that doubles. Redirects are not followed, answers are bounded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from verifiers import guarded_http
from verifiers.guarded_http import Allowed

MAX_ANSWER = 2**18
FIRST_PAUSE_S = 0.1
_RETRIED = frozenset((408, 425, 429, 500, 502, 503, 504))


class AskError(Exception):
    """The server gave no usable answer; `body` is what it said instead, if it said anything."""

    def __init__(self, message: str, body: bytes = b"") -> None:
        super().__init__(message)
        self.body = body


class _PassingError(AskError):
    """What another attempt may mend, after `pause_s`."""

    def __init__(self, message: str, body: bytes = b"", pause_s: float = 0.0) -> None:
        super().__init__(message, body)
        self.pause_s = pause_s


def ask(
    url: str,
    body: bytes,
    headers: Callable[[], Mapping[str, str]],
    *,
    deadline_s: float,
    retries: int,
    allowed: Allowed | None,
    max_answer: int = MAX_ANSWER,
) -> bytes:
    """The body of the answer with status 200. Raises AskError.

    `headers` are made anew for each attempt; with `allowed` None the address is the
    operator's own, which may lie anywhere.
    """
    deadline = time.monotonic() + deadline_s
    pause = FIRST_PAUSE_S
    for attempt in range(retries + 1):
        try:
            return _attempt(url, body, headers(), deadline, allowed, max_answer)
        except _PassingError as error:
            wait = max(pause, error.pause_s)
            if attempt == retries or time.monotonic() + wait >= deadline:
                raise AskError(f"{error} (attempt {attempt + 1})", error.body) from None
        time.sleep(wait)
        pause *= 2
    raise AssertionError("the last attempt returns or raises")


def _attempt(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    deadline: float,
    allowed: Allowed | None,
    max_answer: int,
) -> bytes:
    try:
        answer = guarded_http.post(
            url, body, headers, deadline=deadline, allowed=allowed, max_answer=max_answer
        )
    except guarded_http.BlockedError as error:
        raise AskError(str(error)) from None
    except guarded_http.GuardedError as error:
        raise _PassingError(str(error)) from None
    if answer.status in _RETRIED:
        raise _PassingError(f"status {answer.status}", answer.body, answer.retry_after_s)
    if answer.status != 200:
        moved = " (redirects are not followed)" if 300 <= answer.status < 400 else ""
        raise AskError(f"status {answer.status}{moved}", answer.body)
    if len(answer.body) > max_answer:
        raise AskError(f"an answer of more than {max_answer} bytes")
    return answer.body
