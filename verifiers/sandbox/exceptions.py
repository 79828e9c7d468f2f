"""Exceptions across the protocol: a name, builtin kinds and a message, never an object.

What arrives is made anew from this interpreter's own builtins, so that nothing with
behaviour crosses and `except KeyError` works on both sides.
"""

from __future__ import annotations

import builtins
from typing import Any

MAX_MESSAGE = 2_000
MAX_REASON = 500


class CandidateError(Exception):
    """The other side raised something that is no builtin exception."""


def describe(error: BaseException) -> list[Any]:
    """Class name, names of its builtin bases from near to far, and message."""
    kinds = type(error).__mro__
    known = [kind.__name__ for kind in kinds if getattr(builtins, kind.__name__, None) is kind]
    try:
        message = str(error)[:MAX_MESSAGE]
    except BaseException as failure:
        message = f"a message that cannot be read: {type(failure).__name__}"
    return [kinds[0].__name__, known, message]


def revive(description: Any) -> Exception | None:
    """An exception of the nearest builtin kind; None when this describes none.

    Only an Exception: nothing that ends a process. What is no builtin is a CandidateError.
    """
    match description:
        case [str(name), [*known], str(message)]:
            pass
        case _:
            return None
    for kind_name in known:
        kind = getattr(builtins, str(kind_name), None)
        if kind is Exception:
            break
        if isinstance(kind, type) and issubclass(kind, Exception):
            try:
                return kind(message[:MAX_REASON])
            except TypeError:  # a kind that needs more than a message
                continue
    return CandidateError(f"{name[:80]}: {message[:MAX_REASON]}")


def why(error: BaseException) -> str:
    """An exception in a line of bounded length."""
    name, _, message = describe(error)
    return f"{name}: {message}"[:MAX_REASON]
