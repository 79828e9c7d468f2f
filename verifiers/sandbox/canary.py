"""Attacks that a healthy wall stops, tried from inside: by a fork of the zygote, by a worker.

`breaches` is run behind the walls and names every mechanism that let something through.
Whoever gets a list that is not empty refuses to serve.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from verifiers.sandbox import libc
from verifiers.sandbox.policy import Mechanism, Reach

_PR_GET_DUMPABLE, _PR_GET_NO_NEW_PRIVS = 3, 39
_CAPGET = {"x86_64": 125, "aarch64": 90}
_CAPABILITY_VERSION_3 = 0x20080522
_IO_URING_SETUP, _PIDFD_OPEN = 425, 434  # the same on every machine
_CLONE_NEWUSER = 0x10000000
_FOLDER, _NEW_FILE = os.O_RDONLY | os.O_DIRECTORY, os.O_WRONLY | os.O_TMPFILE


@dataclass(frozen=True, slots=True)
class Canary:
    """One attack: what it tries, the wall that stops it, and how to try it (True: stopped)."""

    attack: str
    mechanism: Mechanism
    stopped: Callable[[], bool]


def breaches(
    mechanisms: Collection[Mechanism],
    reach: Reach,
    bounds: Iterable[tuple[int, int, int]],
) -> list[list[str]]:
    """[mechanism, attack] of everything that was not stopped.

    `bounds` are the resource limits that should be in force: resource, soft, hard.
    """
    canaries = [*_CANARIES, _PACKETS if reach.network else _SOCKETS]
    if "namespaces" in mechanisms:
        canaries += _out_of_sight("namespaces") + _unchanging(("/", *reach.readable))
    else:
        canaries += _out_of_sight("landlock")
    found = [[canary.mechanism, canary.attack] for canary in canaries if not _is_stopped(canary)]
    for name, *values in bounds:
        if resource.getrlimit(name) != tuple(values):
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


def _open_refused(path: str, flags: int, *codes: int) -> Callable[[], bool]:
    def stopped() -> bool:
        try:
            os.close(os.open(path, flags, 0o600))
        except OSError as error:
            return error.errno in codes
        return False

    return stopped


def _out_of_sight(mechanism: Mechanism) -> list[Canary]:
    codes = (errno.EACCES,) if mechanism == "landlock" else (errno.EACCES, errno.ENOENT)
    return [
        Canary(f"list {path}", mechanism, _open_refused(path, _FOLDER, *codes))
        for path in ("/", "/etc", "/proc")
    ]


def _unchanging(paths: Iterable[str]) -> list[Canary]:
    return [Canary(f"change {path}", "namespaces", _read_only(path)) for path in paths]


def _read_only(path: str) -> Callable[[], bool]:
    codes = (errno.EROFS, errno.EACCES)
    return lambda: libc.call("access", os.fsencode(path), os.W_OK) in codes


def _no_capabilities() -> bool:
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    number = _CAPGET[os.uname().machine]
    return libc.syscall(number, header, data) == 0 and data.raw == bytes(24)


_CANARIES = (
    Canary("gain privileges by exec", "no_new_privs", _prctl_says(_PR_GET_NO_NEW_PRIVS, 1)),
    Canary("be read by a debugger", "dumpable", _prctl_says(_PR_GET_DUMPABLE, 0)),
    Canary("use a capability", "capabilities", _no_capabilities),
    Canary("fork", "seccomp", _fork_refused),
    Canary("execute a program", "seccomp", _call_refused("execv", b"/bin/true", None)),
    Canary("trace a process", "seccomp", _call_refused("ptrace", 16, 2**30, None, None)),
    Canary("send a signal", "seccomp", _call_refused("kill", os.getpid(), 0)),
    Canary("make a memory file", "seccomp", _call_refused("memfd_create", b"x", 0)),
    Canary("leave the session", "seccomp", _call_refused("setsid")),
    Canary("enter a namespace", "seccomp", _call_refused("unshare", _CLONE_NEWUSER)),
    Canary("change a mode", "seccomp", _call_refused("chmod", b"/nowhere", 0o755)),
    Canary("set up io_uring", "seccomp", _call_refused("syscall", _IO_URING_SETUP, 1, None)),
    Canary("write to /tmp", "seccomp", _open_refused("/tmp", _NEW_FILE, errno.EPERM)),
    Canary("open a pidfd", "seccomp", _call_refused("syscall", _PIDFD_OPEN, 1, 0)),
)
_SOCKETS = Canary("open a socket", "seccomp", _call_refused("socket", 2, 1, 0))
_PACKETS = Canary("open a packet socket", "seccomp", _call_refused("socket", 17, 3, 0))
