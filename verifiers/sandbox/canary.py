"""Attacks that a healthy wall stops, tried from inside by a real fork of the zygote.

`breaches` is run behind the walls and names every mechanism that let something through.
The supervisor refuses to serve when the list is not empty.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct
from collections.abc import Callable
from dataclasses import dataclass

from verifiers.sandbox import libc, walls
from verifiers.sandbox.policy import Limits, Mechanism

_PR_GET_DUMPABLE, _PR_GET_NO_NEW_PRIVS = 3, 39
_CAPGET = {"x86_64": 125, "aarch64": 90}
_CAPABILITY_VERSION_3 = 0x20080522
_IO_URING_SETUP, _PIDFD_OPEN = 425, 434  # the same on every machine
_CLONE_NEWUSER = 0x10000000


@dataclass(frozen=True, slots=True)
class Canary:
    """One attack: what it tries, the wall that stops it, and how to try it (True: stopped)."""

    attack: str
    mechanism: Mechanism
    stopped: Callable[[], bool]


def breaches(limits: Limits) -> list[list[str]]:
    """[mechanism, attack] of everything that was not stopped."""
    found = [[canary.mechanism, canary.attack] for canary in _CANARIES if not _is_stopped(canary)]
    for name, value in walls.rlimits(limits):
        if resource.getrlimit(name) != (value, value):
            found.append(["rlimits", f"use {resource.getrlimit(name)} of resource {name}"])
    return found


def _is_stopped(canary: Canary) -> bool:
    try:
        return canary.stopped()
    except Exception:  # an attack that fails in an unforeseen way is not one that was stopped
        return False


def _prctl_says(option: int, value: int) -> Callable[[], bool]:
    return lambda: libc.prctl(option) == value


def _call_refused(name: str, *arguments: object) -> Callable[[], bool]:
    return lambda: libc.call(name, *arguments) == errno.EPERM


def _fork_refused() -> bool:
    try:
        pid = os.fork()
    except PermissionError:
        return True
    if pid == 0:
        os._exit(0)
    return False


def _open_refused(path: str, flags: int) -> Callable[[], bool]:
    def stopped() -> bool:
        try:
            os.close(os.open(path, flags, 0o600))
        except PermissionError as error:
            return error.errno == errno.EACCES
        return False

    return stopped


def _no_capabilities() -> bool:
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    number = _CAPGET[os.uname().machine]
    return libc.syscall(number, header, data) == 0 and data.raw == bytes(24)


_CANARIES = (
    Canary("gain privileges by exec", "no_new_privs", _prctl_says(_PR_GET_NO_NEW_PRIVS, 1)),
    Canary("be read by a debugger", "dumpable", _prctl_says(_PR_GET_DUMPABLE, 0)),
    Canary("use a capability", "capabilities", _no_capabilities),
    Canary("list the root folder", "landlock", _open_refused("/", os.O_RDONLY | os.O_DIRECTORY)),
    Canary("read /etc", "landlock", _open_refused("/etc", os.O_RDONLY | os.O_DIRECTORY)),
    Canary("read /proc", "landlock", _open_refused("/proc", os.O_RDONLY | os.O_DIRECTORY)),
    Canary("write to /tmp", "landlock", _open_refused("/tmp", os.O_WRONLY | os.O_TMPFILE)),
    Canary("open a socket", "seccomp", _call_refused("socket", 2, 1, 0)),
    Canary("fork", "seccomp", _fork_refused),
    Canary("execute a program", "seccomp", _call_refused("execv", b"/bin/true", None)),
    Canary("trace a process", "seccomp", _call_refused("ptrace", 16, 2**30, None, None)),
    Canary("send a signal", "seccomp", _call_refused("kill", os.getpid(), 0)),
    Canary("make a memory file", "seccomp", _call_refused("memfd_create", b"x", 0)),
    Canary("leave the session", "seccomp", _call_refused("setsid")),
    Canary("enter a namespace", "seccomp", _call_refused("unshare", _CLONE_NEWUSER)),
    Canary("change a mode", "seccomp", _call_refused("chmod", b"/nowhere", 0o755)),
    Canary("set up io_uring", "seccomp", _call_refused("syscall", _IO_URING_SETUP, 1, None)),
    Canary("open a pidfd", "seccomp", _call_refused("syscall", _PIDFD_OPEN, 1, 0)),
)
