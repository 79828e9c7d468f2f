"""A root folder of one's own: what keeps files out of reach where there is no Landlock.

After `enter` this process, and all that it starts, lives in a user namespace with a root
that holds nothing but the listed folders, mounted read-only, and, unless it may use it,
without a network. For kernels that answer ENOSYS to Landlock, of which gVisor is the one
that matters; written against gVisor's sources and tried on Linux, where it was told not to
use Landlock. Knows no policy.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Iterator

from verifiers.sandbox import libc
from verifiers.sandbox.policy import Reach

_NEW_MOUNTS, _NEW_IPC, _NEW_USER, _NEW_NET = 0x00020000, 0x08000000, 0x10000000, 0x40000000
_READ_ONLY, _NO_SUID, _NO_DEVICES, _NO_EXEC = 1, 2, 4, 8
_REMOUNT, _BIND, _RECURSIVE = 32, 4096, 16384
_KEPT = _NO_SUID | _NO_DEVICES | _NO_EXEC
"""What a mount that was there before must not lose."""
_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_UNSHARE = {"x86_64": 272, "aarch64": 97}
_STAGE = "/proc"
"""Where the new root is put together: a folder that there always is, and none may see after."""
EMPTY = "/empty"


class NamespaceError(OSError):
    """This kernel, or this user, makes no namespaces."""


def available() -> bool:
    """Whether this user may make them: a child tries. Raises OSError."""
    child = os.fork()
    if child == 0:
        try:
            enter(Reach())
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def enter(reach: Reach) -> None:
    """Leave everything behind but what `reach` lists, for ever. One thread only.

    Keeps the capabilities that a new namespace brings, over itself alone: drop them.
    Raises NamespaceError.
    """
    user, group = os.geteuid(), os.getegid()
    wanted = _NEW_USER | _NEW_MOUNTS | _NEW_IPC | (0 if reach.network else _NEW_NET)
    try:
        libc.syscall(_UNSHARE[os.uname().machine], wanted)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
        mask = os.umask(0o666)  # folders on the way can be passed and not listed
        _furnish(reach)
        os.umask(mask)
    except OSError as error:
        raise NamespaceError(error.errno, f"no namespaces: {error}") from None


def shut_out() -> None:
    """See no file any more, not even what `enter` left. Needs its capabilities. Raises OSError."""
    os.chroot(EMPTY)
    os.chdir("/")


def _furnish(reach: Reach) -> None:
    mounts = list(_mount_points())
    _mount("tmpfs", _STAGE, "tmpfs", _NO_SUID | _NO_DEVICES, "mode=111")
    for path in _outermost((*reach.readable, *reach.executable)):
        _bind(path, mounts, _READ_ONLY)
    for path in reach.writable:
        _bind(path, mounts, 0)
    os.mkdir(_STAGE + EMPTY)
    os.mkdir(f"{_STAGE}/old")
    libc.syscall(_PIVOT_ROOT[os.uname().machine], _STAGE.encode(), f"{_STAGE}/old".encode())
    os.chdir("/")
    _check(libc.call("umount2", b"/old", _DETACH), "umount2 of the old root")
    os.rmdir("/old")
    _mount(None, "/", None, _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEVICES)


def _outermost(paths: Iterable[str]) -> list[str]:
    """The paths that lie beneath no other, in order."""
    known: list[str] = []
    for path in sorted(dict.fromkeys(paths)):
        if not any(path.startswith(f"{other}/") for other in known):
            known.append(path)
    return known


def _bind(path: str, mounts: Iterable[str], flags: int) -> None:
    """Show a folder or file at its own name in the new root; what is mounted below, too."""
    target = _STAGE + path
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o444))
    _mount(path, target, None, _BIND | _RECURSIVE)
    real = os.path.realpath(path)
    below = [path + mount[len(real) :] for mount in mounts if mount.startswith(f"{real}/")]
    for place in (path, *below):
        kept = os.statvfs(_STAGE + place).f_flag & _KEPT
        _mount(None, _STAGE + place, None, _REMOUNT | _BIND | flags | kept)


def _mount_points() -> Iterator[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            yield line.split()[4].encode("latin-1", "replace").decode("unicode_escape")


def _mount(
    source: str | None, target: str, kind: str | None, flags: int, data: str | None = None
) -> None:
    texts = [None if t is None else os.fsencode(t) for t in (source, target, kind, data)]
    code = libc.call("mount", *texts[:3], ctypes.c_ulong(flags), texts[3])
    _check(code, f"mount of {source or kind or 'flags'} at {target.removeprefix(_STAGE) or '/'}")


def _check(code: int, what: str) -> None:
    if code:
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
