"""System calls that Python does not have, through one handle to the C library.

The handle is made once, by the zygote: making another in each fork would copy pages.
"""

from __future__ import annotations

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)
_SYSCALL, _PRCTL = _LIBC.syscall, _LIBC.prctl


def syscall(number: int, *arguments: object) -> int:
    """The result of a system call. Raises OSError."""
    result = _SYSCALL(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def prctl(option: int, value: int = 0) -> int:
    """The result of prctl with one argument. Raises OSError."""
    result = _PRCTL(option, value, 0, 0, 0)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}, {value}): {os.strerror(code)}")
    return result


def call(name: str, *arguments: object) -> int:
    """The errno that a function of the C library fails with, 0 when it succeeds."""
    return ctypes.get_errno() if getattr(_LIBC, name)(*arguments) == -1 else 0
