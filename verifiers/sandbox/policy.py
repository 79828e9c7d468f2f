"""What code inside the walls may do. This table is the whole of it: read it top to bottom.

Everything that is not listed is refused: a system call with EPERM, a path with EACCES.
Knows nothing of how the walls are raised; see `seccomp`, `landlock` and `walls`.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Mechanism = Literal[
    "no_new_privs", "dumpable", "capabilities", "rlimits", "landlock", "namespaces", "seccomp"
]
Profile = Literal["landlock", "namespaces"]
"""What keeps files out of reach: rules on paths, or, where the kernel has none (inside
gVisor), a root folder of its own in a user namespace."""

MECHANISMS: Mapping[Profile, tuple[Mechanism, ...]] = {
    profile: tuple(m for m in get_args(Mechanism) if m not in get_args(Profile) or m == profile)
    for profile in get_args(Profile)
}
UNSAFE: tuple[Mechanism, ...] = ("no_new_privs", "dumpable", "rlimits")
"""What is raised where the walls may be missing: what every Linux has."""


@dataclass(frozen=True, slots=True)
class OneOf:
    """Argument number `argument` of the call is one of `values`."""

    argument: int
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class HasFlags:
    """Argument number `argument` of the call has all bits of `mask`."""

    argument: int
    mask: int


@dataclass(frozen=True, slots=True)
class LacksFlags:
    """Argument number `argument` of the call has no bit of `mask`."""

    argument: int
    mask: int


Condition = OneOf | HasFlags | LacksFlags


@dataclass(frozen=True, slots=True)
class Reach:
    """What a room may reach outside itself.

    readable    folders and files that may be read
    executable  those that may be read and executed
    writable    folders in which everything may be done
    network     whether it may connect to other machines
    signals     whether it may signal processes of other rooms that it holds a pidfd of
    """

    readable: tuple[str, ...] = ()
    executable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    network: bool = False
    signals: bool = False


ALLOWED: tuple[str, ...] = (
    # descriptors that are already open, and files that Landlock lets be opened for reading
    "read", "readv", "pread64", "write", "writev", "lseek", "close", "dup", "dup2", "dup3",
    "fstat", "stat", "lstat", "newfstatat", "statx", "access", "faccessat",
    "faccessat2", "readlink", "readlinkat", "getdents64", "getcwd",
    # memory
    "brk", "mmap", "munmap", "mprotect", "mremap", "madvise", "membarrier",
    # threads and signals of its own
    "futex", "set_robust_list", "set_tid_address", "rseq", "sched_yield", "sched_getaffinity",
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall",
    "exit", "exit_group", "arch_prctl",
    # waiting and clocks
    "poll", "ppoll", "select", "pselect6", "nanosleep", "clock_nanosleep", "clock_gettime",
    "clock_getres", "gettimeofday", "time", "times", "getrusage",
    # who and where am I
    "getpid", "getppid", "gettid", "getuid", "geteuid", "getgid", "getegid", "getrlimit",
    "capget", "uname", "sysinfo", "getrandom",
)  # fmt: skip

_CLONE_THREAD = 0x00010000
_CLONE_VM = 0x00000100
_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | (os.O_TMPFILE & ~os.O_DIRECTORY)

CONDITIONAL: Mapping[str, tuple[Condition, ...]] = {
    "open": (LacksFlags(1, _TO_WRITE),),
    "openat": (LacksFlags(2, _TO_WRITE),),
    "clone": (HasFlags(0, _CLONE_THREAD | _CLONE_VM),),  # a thread, never a process
    "prlimit64": (OneOf(0, (0,)), OneOf(2, (0,))),  # read its own limits, set none
    "fcntl": (OneOf(1, (0, 1, 2, 3, 1030)),),  # F_DUPFD, F_[GS]ETFD, F_GETFL, F_DUPFD_CLOEXEC
    "ioctl": (OneOf(1, (0x5401, 0x5413, 0x5450, 0x5451)),),  # TCGETS, TIOCGWINSZ, FIO[N]CLEX
    "prctl": (OneOf(0, (3, 21, 39)),),  # PR_GET_DUMPABLE, PR_GET_SECCOMP, PR_GET_NO_NEW_PRIVS
}

NOT_IMPLEMENTED: tuple[str, ...] = ("clone3",)
"""Answered ENOSYS: its flags lie in memory, and the C library then falls back to `clone`."""


COMPILER_ALLOWED: tuple[str, ...] = (
    # a compiler is our program on the candidate's text: it starts its passes and writes files
    *(
        *ALLOWED,
        "open",
        "openat",
        "clone",
        "vfork",
        "execve",
        "wait4",
        "pipe",
        "pipe2",
        "umask",
        "chmod",
        "fchmod",
    ),
    *("unlink", "unlinkat", "rename", "ftruncate", "fallocate", "fadvise64", "getpgrp"),
)

BINARY = 4
"""The descriptor of a compiled program, closed by its own start."""
_AT_EMPTY_PATH = 0x1000

NATIVE_CONDITIONAL: Mapping[str, tuple[Condition, ...]] = {
    **CONDITIONAL,
    "execveat": (OneOf(0, (BINARY,)), OneOf(4, (_AT_EMPTY_PATH,))),  # become that program
}

WORKER_ALLOWED: tuple[str, ...] = (
    # a worker talks over sockets that it has, and takes descriptors from its zygotes
    *(*ALLOWED, "recvfrom", "recvmsg", "getsockname", "getsockopt", "shutdown", "wait4"),
    # sets its timer, and ends what its zygotes forked for it
    *("setitimer", "pidfd_send_signal"),
)
_FCNTL = (0, 1, 2, 3, 4, 5, 6, 1030)  # also F_SETFL, and DuckDB's read lock: F_GETLK, F_SETLK
_IOCTL = (0x5401, 0x5413, 0x5421, 0x5450, 0x5451)  # also FIONBIO

WORKER_CONDITIONAL: Mapping[str, tuple[Condition, ...]] = {
    **CONDITIONAL,
    "prlimit64": (OneOf(0, (0,)),),  # its own limits alone, and those only downwards
    "fcntl": (OneOf(1, _FCNTL),),
    "ioctl": (OneOf(1, _IOCTL),),
    "sendto": (OneOf(4, (0,)),),  # to no address: over a socket that is connected
}

NETWORK_ALLOWED: tuple[str, ...] = (
    *(*WORKER_ALLOWED, "connect", "setsockopt", "getpeername", "sendto", "sendmsg", "sendmmsg"),
    *("recvmmsg", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait"),
    "bind",  # a resolver's socket; none may listen
)
NETWORK_CONDITIONAL: Mapping[str, tuple[Condition, ...]] = {
    **{name: c for name, c in WORKER_CONDITIONAL.items() if name != "sendto"},
    "socket": (OneOf(0, (1, 2, 10, 16)),),  # local, IPv4, IPv6, and netlink for resolvers
}
NETWORK_FILES = (
    *("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf"),
    *(
        "/etc/ssl/certs",
        "/etc/ssl/openssl.cnf",
        "/etc/ssl/cert.pem",
        "/etc/pki/tls",
        "/etc/pki/ca-trust",
    ),
    "/usr/share/ca-certificates",
)
"""What resolving names and checking certificates needs to read."""

DUCKDB_FILES = ("/proc/self/cgroup", "/sys/fs/cgroup")
"""Where DuckDB looks for its limits: it dies of a file that is there and cannot be opened."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What each process of a run may use.

    memory      bytes of address space
    cpu_s       whole seconds of CPU; the kernel kills beyond
    stack       bytes of stack
    file_size   bytes of the largest file it may write; 0 but for the compiler
    open_files  descriptors
    """

    memory: int = 512 * 2**20
    cpu_s: int = 10
    stack: int = 16 * 2**20
    file_size: int = 0
    open_files: int = 32


COMPILER_LIMITS = Limits(2 * 2**30, 20, file_size=64 * 2**20, open_files=64)

COMPILERS: Mapping[str, tuple[str, ...]] = {
    "c": ("gcc", "-x", "c", "-std=gnu17"),
    "cpp": ("g++", "-x", "c++", "-std=gnu++20"),
}
COMPILER_OPTIONS = ("-O2", "-static", "-w", "-fno-diagnostics-color", "-", "-lm", "-o")
TOOLCHAIN = ("/usr/bin", "/usr/lib", "/usr/libexec", "/usr/include", "/lib", "/lib64")
"""What a compiler may read and execute."""

NEVER_READABLE = ("/", "/etc", "/proc", "/sys", "/dev", "/tmp", "/home", "/root", "/var", "/run")


_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def import_path() -> list[str]:
    """What a process of ours imports from, wherever it starts: this process's path, and the
    folder of this package, which an editable install finds by a hook and not by the path."""
    return [*map(os.path.abspath, sys.path), os.path.dirname(_PACKAGE)]  # "" is the current folder


def readable_paths() -> tuple[str, ...]:
    """What may be read: the standard library, the environment's packages, shared libraries."""
    packages = [p for p in sys.path if os.path.basename(p) in ("site-packages", "dist-packages")]
    candidates = (
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("platstdlib"),
        os.path.join(sys.base_exec_prefix, "lib"),
        *packages,
        *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"),
    )
    # As they are named too: a root folder of our own has no symbolic links that lead there.
    named = dict.fromkeys(n for path in candidates for n in (path, os.path.realpath(path)))
    return tuple(
        path
        for path in named
        if os.path.isdir(path) and os.path.realpath(path) not in NEVER_READABLE
    )


def worker_reach(databases: Sequence[str], *, network: bool, profile: Profile) -> Reach:
    """What a worker that judges may reach: its own package, and the tasks' databases."""
    files = [
        f"/usr/bin/{command[0]}" for command in COMPILERS.values()
    ]  # to see that they are there
    files += NETWORK_FILES if network else ()
    files += DUCKDB_FILES if databases and profile == "landlock" else ()
    readable = (*readable_paths(), _PACKAGE, *filter(os.path.exists, files), *databases)
    return Reach(tuple(dict.fromkeys(readable)), network=network, signals=True)
