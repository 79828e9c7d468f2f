"""Run a program behind a seccomp filter that refuses some calls, as a container runtime does.

Arguments: `docker`, or numbers of system calls with the error they get (`444:38`), joined
by commas; then the program and its arguments. Needs no_new_privs or a capability, and
takes the first for itself.
"""

from __future__ import annotations

import errno
import os
import struct
import sys

from verifiers.sandbox import libc
from verifiers.sandbox.seccomp import Filter

# What Docker's default profile refuses a container without capabilities, by x86-64 number:
# module and kernel loading, mounts, namespaces, keys, BPF, perf, userfaultfd, io_uring.
_DOCKER = (
    *(155, 165, 166, 167, 168, 169, 175, 176, 246, 248, 249, 250, 272, 298, 304, 308, 313),
    *(320, 321, 323, 425, 426, 427, 428, 429, 430, 431, 432, 433, 442),
)
_CLONE, _CLONE3, _NEW_NAMESPACES = 56, 435, 0x7E020000


def main() -> None:
    """Put the filter on, then become the program."""
    program = [(0x20, 0, 0, 0)]
    if sys.argv[1] == "docker":
        refused = [(number, errno.EPERM) for number in _DOCKER] + [(_CLONE3, errno.ENOSYS)]
    else:
        refused = [tuple(map(int, pair.split(":"))) for pair in sys.argv[1].split(",")]
    for number, error in refused:
        program += [(0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | error)]
    if sys.argv[1] == "docker":
        program += [(0x15, 0, 3, _CLONE), (0x20, 0, 0, 16), (0x45, 0, 1, _NEW_NAMESPACES)]
        program += [(0x06, 0, 0, 0x00050000 | errno.EPERM)]
    program += [(0x06, 0, 0, 0x7FFF0000)]
    libc.prctl(38, 1)
    Filter(b"".join(struct.pack("=HBBI", *line) for line in program)).install()
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
