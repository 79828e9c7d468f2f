"""Landlock: after `restrict`, only the listed folders can be read and nothing written.

Also refuses TCP (kernel 6.7 on), and abstract sockets and signals beyond the domain
(6.12 on), where the kernel knows how. Knows no policy.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable

from verifiers.sandbox import libc

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every machine
_CREATE_VERSION = 1
_RULE_PATH_BENEATH = 1

_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
_FIRST_ABI_RIGHTS = (1 << 13) - 1
_LATER_RIGHTS = {2: 1 << 13, 3: 1 << 14, 5: 1 << 15}  # refer, truncate, ioctl of devices
_BIND_TCP, _CONNECT_TCP = 0b01, 0b10
_SCOPE_SOCKETS, _SCOPE_SIGNALS = 0b01, 0b10


class LandlockError(OSError):
    """The kernel has no Landlock, or refuses the rules."""


def abi() -> int:
    """The version of Landlock this kernel has. Raises LandlockError when it has none."""
    return _call(_CREATE_RULESET, None, ctypes.c_size_t(0), _CREATE_VERSION)


def restrict(
    readable: Iterable[str],
    *,
    executable: Iterable[str] = (),
    writable: Iterable[str] = (),
    network: bool = False,
    signals: bool = False,
) -> None:
    """Confine this thread and all that it starts, for ever, to reading beneath `readable`.

    `executable` may be read and executed, in `writable` everything be done; `network` lets
    it connect, `signals` signal. Needs no_new_privs. Raises LandlockError.
    """
    version = abi()
    rights = _FIRST_ABI_RIGHTS
    for since, right in _LATER_RIGHTS.items():
        rights |= right if version >= since else 0
    attributes = struct.pack("=Q", rights)
    if version >= 4:
        attributes += struct.pack("=Q", _BIND_TCP | (0 if network else _CONNECT_TCP))
    if version >= 6:
        attributes += struct.pack("=Q", _SCOPE_SOCKETS | (0 if signals else _SCOPE_SIGNALS))
    ruleset = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    try:
        for paths, access in (
            (readable, _READ_FILE | _READ_DIR),
            (executable, _READ_FILE | _READ_DIR | _EXECUTE),
            (writable, rights),
        ):
            for path in paths:
                _allow(ruleset, path, access)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):
            access &= ~_READ_DIR
        rule = struct.pack("=Qi", access, descriptor)
        _call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
    finally:
        if not path.startswith("/proc/"):  # there, only while it is open is a file the same
            os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    try:
        return libc.syscall(number, *arguments)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
            reason = "this kernel has no Landlock, or it is switched off"
            raise LandlockError(error.errno, reason) from None
        raise LandlockError(error.errno, f"Landlock refuses: {error.strerror}") from None
