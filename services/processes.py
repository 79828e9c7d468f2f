"""Child processes with a known end: they die with their parent and leave nothing behind.

A family is every process that carries one mark in its environment, and all below them. The
mark survives adoption by init; a process that overwrites its environment with a title, as
Ray's workers do, is known by its parent or from an earlier look. So a family can be ended
whole, and nobody else's processes are ever touched. Linux only (`/proc`, prctl).
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_MARK = "STROP_FAMILY"
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Iterable[int] = (),
    at_parents_death: signal.Signals | None = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start a process of its own session, so that a Ctrl-C in the terminal spares it.

    Its output is appended to `log`, which is for the owner alone. The kernel sends it
    `at_parents_death` when the calling thread ends, however it ends.
    """

    def tie_to_parent() -> None:
        if at_parents_death is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, at_parents_death)

    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=cwd,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
            preexec_fn=tie_to_parent,
        )
    finally:
        os.close(descriptor)


def stop(process: subprocess.Popen[bytes], *, deadline: float) -> bool:
    """SIGTERM, then SIGKILL after `deadline` seconds; whether it went by itself."""
    if process.poll() is not None:
        return True
    process.terminate()
    try:
        process.wait(deadline)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
        return False
    return True


@dataclass
class Family:
    """Every process started with `environment()`, and all their descendants."""

    mark: str
    _seen: set[psutil.Process] = field(default_factory=set[psutil.Process])

    def environment(self) -> dict[str, str]:
        """This process's environment with the family's mark."""
        return {**os.environ, _MARK: self.mark}

    def members(self) -> set[psutil.Process]:
        """The living members, the calling process never among them."""
        found = {process for process in psutil.process_iter() if self._carries_mark(process)}
        found |= {child for process in found for child in _descendants(process)}
        self._seen |= found
        return {p for p in self._seen if _lives(p) and p.pid != os.getpid()}

    def tidy(self) -> None:
        """Free what members left behind that have died since the last call."""
        living = self.members()
        _unlink(_openmp_segments(self._seen - living))
        self._seen = living

    def end(self, *, deadline: float) -> list[int]:
        """Terminate every member, kill what is left after `deadline` seconds, free its memory.

        Returns the process ids it had to kill.
        """
        members = self.members()
        segments = set[Path]().union(*(_mapped_segments(process.pid) for process in members))
        for process in members:
            _signal(process, signal.SIGTERM)
        psutil.wait_procs(members, timeout=deadline)
        stubborn = set[psutil.Process]()
        until = time.monotonic() + 10
        # Until nobody is left: a member that dies may just have started another.
        while (left := self.members()) and time.monotonic() < until:
            stubborn |= left
            for process in left:
                _signal(process, signal.SIGKILL)
            psutil.wait_procs(left, timeout=1)
        self.tidy()
        held = set[Path]().union(*map(_mapped_segments, psutil.pids())) if segments else set[Path]()
        _unlink(segments - held)
        return [process.pid for process in stubborn]

    def _carries_mark(self, process: psutil.Process) -> bool:
        try:
            entries = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False  # gone, or somebody else's
        return f"{_MARK}={self.mark}".encode() in entries


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _signal(process: psutil.Process, number: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _unlink(segments: Iterable[Path]) -> None:
    for segment in segments:
        segment.unlink(missing_ok=True)


def _mapped_segments(pid: int) -> set[Path]:
    """Named POSIX shared memory that the process has mapped."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return set()
    return {
        Path(name)
        for line in lines
        if (name := line[line.find("/") :]).startswith("/dev/shm/") and "(deleted)" not in name
    }


def _openmp_segments(dead: Iterable[psutil.Process]) -> list[Path]:
    """By these Intel's OpenMP registers a process; one that was killed leaves its own behind."""
    return [
        path
        for process in dead
        for path in Path("/dev/shm").glob(f"__KMP_REGISTERED_LIB_{process.pid}_*")
    ]
