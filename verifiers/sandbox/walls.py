"""Raise the walls around this process, for ever.

The parts that every run shares (`settle`) are raised once, by the zygote; the rest
(`confine`) by each fork, before it reads its first untrusted byte. Nothing is skipped in
silence: a wall that cannot be raised is an error.
"""

from __future__ import annotations

import os
import resource
import signal
import struct
from collections.abc import Collection

from verifiers.sandbox import landlock, libc, namespaces, policy, seccomp
from verifiers.sandbox.policy import Limits, Mechanism, Profile, Reach

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x20080522


class WallError(OSError):
    """A wall that cannot be raised."""


def profile() -> Profile:
    """How files are kept out of reach here: by Landlock, else by namespaces.

    Where neither is to be had the answer is `landlock`, whose wall then fails to rise.
    """
    try:
        landlock.abi()
    except landlock.LandlockError:
        return "namespaces" if namespaces.available() else "landlock"
    return "landlock"


def settle(mechanisms: Collection[Mechanism], reach: Reach, *, last: bool = True) -> None:
    """What a zygote raises before it serves; forks inherit it. Raises OSError.

    Not `last`: capabilities stay, for `only`, and each fork drops them itself.
    """
    if "no_new_privs" in mechanisms:
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if "namespaces" in mechanisms:
        namespaces.enter(reach)  # while it may still write its own maps
    if "dumpable" in mechanisms:
        libc.prctl(_PR_SET_DUMPABLE, 0)
    if "landlock" in mechanisms:
        landlock.restrict(
            reach.readable,
            executable=reach.executable,
            writable=reach.writable,
            network=reach.network,
            signals=reach.signals,
        )
    if last and "capabilities" in mechanisms:
        _drop_capabilities()


def confine(
    mechanisms: Collection[Mechanism], limits: Limits, program: seccomp.Filter, parent: int
) -> None:
    """What each fork raises for itself. `program` is the seccomp filter. Raises OSError."""
    die_with_parent()
    if os.getppid() != parent:
        raise WallError("the zygote died first")
    if "rlimits" in mechanisms:
        for name, value in rlimits(limits):
            resource.setrlimit(name, (value, value))
    if "seccomp" in mechanisms:
        program.install()


def rlimits(limits: Limits) -> tuple[tuple[int, int], ...]:
    """Resource and value, hard and soft alike."""
    return (
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_STACK, limits.stack),
        (resource.RLIMIT_FSIZE, limits.file_size),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, limits.open_files),
    )


def filters() -> dict[str, seccomp.Filter]:
    """The seccomp filter of each role that has one of its own, and of `run`, all others'."""
    free = ("clone", "open", "openat")
    conditions = {name: c for name, c in policy.CONDITIONAL.items() if name not in free}
    table = {
        "run": (policy.ALLOWED, policy.CONDITIONAL),
        "native": (policy.ALLOWED, policy.NATIVE_CONDITIONAL),
        "compiler": (policy.COMPILER_ALLOWED, conditions),
        "worker": (policy.WORKER_ALLOWED, policy.WORKER_CONDITIONAL),
        "network worker": (policy.NETWORK_ALLOWED, policy.NETWORK_CONDITIONAL),
    }
    return {
        role: seccomp.Filter(seccomp.compile_filter(allowed, conditional, policy.NOT_IMPLEMENTED))
        for role, (allowed, conditional) in table.items()
    }


def only(binary: str, mechanisms: Collection[Mechanism]) -> None:
    """Let nothing be opened any more but this program, for execution. Raises OSError."""
    if "landlock" in mechanisms:
        landlock.restrict((), executable=(binary,))
    if "namespaces" in mechanisms:
        namespaces.shut_out()


def renounce(mechanisms: Collection[Mechanism]) -> None:
    """Drop the capabilities that `settle` left. Raises OSError."""
    if "capabilities" in mechanisms:
        _drop_capabilities()


def die_with_parent() -> None:
    """Be killed when the thread that started this process ends. Raises OSError."""
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _drop_capabilities() -> None:
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    libc.syscall(_CAPSET[os.uname().machine], header, bytes(24))
