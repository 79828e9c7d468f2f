"""Regular expressions on RE2: linear in the text, bounded in memory, for specs and judges."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import Any

re2: Any = import_module("re2")  # has no types

MAX_PATTERN = 2_000
MAX_MEMORY = 8 * 2**20


class PatternError(ValueError):
    """A pattern that RE2 does not take: look-around and back-references are not linear."""


@lru_cache(maxsize=256)
def compile_pattern(pattern: str, *, ignore_case: bool = False) -> Any:
    """A compiled pattern. Raises PatternError, which says what RE2 says."""
    if len(pattern) > MAX_PATTERN:
        raise PatternError(f"a pattern of {len(pattern)} characters; {MAX_PATTERN} are allowed")
    options = re2.Options()
    options.case_sensitive = not ignore_case
    options.max_mem = MAX_MEMORY
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0] if error.args else error
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise PatternError(f"no RE2 pattern: {text}") from None


def matches(pattern: Any, text: str) -> bool:
    """Whether the pattern matches the whole text. Raises UnicodeEncodeError for surrogates."""
    return pattern.fullmatch(text) is not None
