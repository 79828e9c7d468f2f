"""A seccomp allow-list as a BPF program: names in, a filter on this thread out.

The filter answers EPERM to what is not allowed, so that a program sees an error it can
report instead of dying. Knows no policy; `policy` has the table.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from verifiers.sandbox import libc
from verifiers.sandbox.policy import Condition, HasFlags, LacksFlags


class SeccompError(OSError):
    """No filter can be made for this machine."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """The audit number of a machine and the column of its calls in the table."""

    audit: int
    column: int


ARCHITECTURES = {"x86_64": Architecture(0xC000003E, 0), "aarch64": Architecture(0xC00000B7, 1)}

# name: (x86_64, aarch64); -1 where the machine has no such call
NUMBERS: Mapping[str, tuple[int, int]] = {
    "chmod": (90, -1), "fadvise64": (221, 223), "fallocate": (285, 47), "fchmod": (91, 52),
    "ftruncate": (77, 46), "getpgrp": (111, -1), "pipe": (22, -1), "pipe2": (293, 59),
    "rename": (82, -1), "umask": (95, 166), "unlink": (87, -1), "unlinkat": (263, 35),
    "vfork": (58, -1), "wait4": (61, 260),
    "bind": (49, 200), "connect": (42, 203), "getpeername": (52, 205),
    "getsockname": (51, 204), "getsockopt": (55, 209), "recvmmsg": (299, 243),
    "sendmmsg": (307, 269), "setsockopt": (54, 208), "shutdown": (48, 210), "socket": (41, 198),
    "access": (21, -1), "arch_prctl": (158, -1), "brk": (12, 214), "capget": (125, 90),
    "clock_getres": (229, 114), "clock_gettime": (228, 113), "clock_nanosleep": (230, 115),
    "clone": (56, 220), "clone3": (435, 435), "close": (3, 57), "dup": (32, 23),
    "dup2": (33, -1), "dup3": (292, 24), "epoll_create1": (291, 20), "epoll_ctl": (233, 21),
    "epoll_pwait": (281, 22), "epoll_wait": (232, -1), "execve": (59, 221),
    "execveat": (322, 281), "exit": (60, 93), "exit_group": (231, 94), "faccessat": (269, 48),
    "faccessat2": (439, 439), "fcntl": (72, 25), "fstat": (5, 80), "futex": (202, 98),
    "getcwd": (79, 17), "getdents64": (217, 61), "getegid": (108, 177), "geteuid": (107, 175),
    "getgid": (104, 176), "getpid": (39, 172), "getppid": (110, 173), "getrandom": (318, 278),
    "getrlimit": (97, 163), "getrusage": (98, 165), "gettid": (186, 178),
    "gettimeofday": (96, 169), "getuid": (102, 174), "ioctl": (16, 29), "kill": (62, 129),
    "lseek": (8, 62), "lstat": (6, -1), "madvise": (28, 233), "membarrier": (324, 283),
    "mmap": (9, 222), "mprotect": (10, 226), "mremap": (25, 216), "munmap": (11, 215),
    "nanosleep": (35, 101), "newfstatat": (262, 79), "open": (2, -1), "openat": (257, 56),
    "pidfd_send_signal": (424, 424), "poll": (7, -1), "ppoll": (271, 73), "prctl": (157, 167),
    "pread64": (17, 67), "prlimit64": (302, 261), "pselect6": (270, 72), "read": (0, 63),
    "readlink": (89, -1), "readlinkat": (267, 78), "readv": (19, 65), "recvfrom": (45, 207),
    "recvmsg": (47, 212), "restart_syscall": (219, 128), "rseq": (334, 293),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "sched_getaffinity": (204, 123), "sched_yield": (24, 124), "seccomp": (317, 277),
    "select": (23, -1), "sendmsg": (46, 211), "sendto": (44, 206), "set_robust_list": (273, 99),
    "set_tid_address": (218, 96), "setitimer": (38, 103), "setrlimit": (160, 164),
    "sigaltstack": (131, 132), "stat": (4, -1), "statx": (332, 291), "sysinfo": (99, 179),
    "time": (201, -1), "times": (100, 153), "uname": (63, 160), "write": (1, 64),
    "writev": (20, 66),
}  # fmt: skip

_LOAD, _AND, _JUMP, _JEQ, _RETURN = 0x20, 0x54, 0x05, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NR, _ARCH, _ARGUMENTS = 0, 4, 16
_SECCOMP_SET_MODE_FILTER = 1

_Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def number(name: str) -> int:
    """The number of a system call on this machine; -1 when it has none."""
    return NUMBERS[name][_architecture().column]


def compile_filter(
    allowed: Sequence[str],
    conditional: Mapping[str, Sequence[Condition]],
    not_implemented: Sequence[str] = (),
) -> bytes:
    """The BPF program of an allow-list for this machine. Raises SeccompError."""
    machine = _architecture()
    refuse: _Instruction = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    allow: _Instruction = (_RETURN, 0, 0, _ALLOW)
    program: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCH),
        (_JEQ, 1, 0, machine.audit),  # a call through a foreign ABI has other numbers
        refuse,
        (_LOAD, 0, 0, _NR),
    ]
    plain = [nr for nr in (number(name) for name in allowed) if nr >= 0]
    if len(plain) > 250:
        raise SeccompError(errno.E2BIG, "more calls than one BPF jump can span")
    program += [(_JEQ, len(plain) - index, 0, nr) for index, nr in enumerate(plain)]
    program += [(_JUMP, 0, 0, 1), allow]
    for name, conditions in conditional.items():
        if number(name) < 0:
            continue
        block = [instruction for c in conditions for instruction in _check(c, refuse)] + [allow]
        program += [(_JEQ, 0, len(block), number(name)), *block]
    for name in not_implemented:
        program += [(_JEQ, 0, 1, number(name)), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    program.append(refuse)
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


class Filter:
    """A compiled program, ready to be put on any fork without further work."""

    def __init__(self, program: bytes) -> None:
        self._program = ctypes.create_string_buffer(program, len(program))
        header = struct.pack("=H6xQ", len(program) // 8, ctypes.addressof(self._program))
        self._header = ctypes.create_string_buffer(header, len(header))
        self._number = number("seccomp")

    def install(self) -> None:
        """Put the filter on this thread and all that it starts, for ever. Raises OSError."""
        libc.syscall(self._number, _SECCOMP_SET_MODE_FILTER, 0, self._header)


def _architecture() -> Architecture:
    try:
        return ARCHITECTURES[os.uname().machine]
    except KeyError:
        known = ", ".join(ARCHITECTURES)
        reason = f"no system call table for {os.uname().machine!r}; there is one for {known}"
        raise SeccompError(errno.ENOSYS, reason) from None


def _check(condition: Condition, refuse: _Instruction) -> list[_Instruction]:
    """Instructions that fall through when the condition holds and refuse when it does not."""
    low = _ARGUMENTS + 8 * condition.argument  # both machines are little-endian
    if isinstance(condition, HasFlags):
        return [
            (_LOAD, 0, 0, low),
            (_AND, 0, 0, condition.mask),
            (_JEQ, 1, 0, condition.mask),
            refuse,
        ]
    if isinstance(condition, LacksFlags):
        return [
            (_LOAD, 0, 0, low),
            (_AND, 0, 0, condition.mask),
            (_JEQ, 1, 0, 0),
            refuse,
        ]
    count = len(condition.values)
    return [
        (_LOAD, 0, 0, low + 4),
        (_JEQ, 1, 0, 0),
        refuse,
        (_LOAD, 0, 0, low),
        *((_JEQ, count - index, 0, value) for index, value in enumerate(condition.values)),
        refuse,
    ]
