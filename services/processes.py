"""Child processes with a known end: they die with their parent and leave nothing behind.

A family is every process that carries one mark in its environment. Grandchildren that moved
to another session or were adopted by init still carry it, so a family can be found and
ended whole, and nobody else's processes are ever touched. Linux only (`/proc`, prctl).
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_MARK = "STROP_FAMILY"
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    # SIGKILL: a parent that was killed cannot tidy up, and neither need its children.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Iterable[int] = (),
    die_with_parent: bool = True,
) -> subprocess.Popen[bytes]:
    """Start a process of its own session, so that a Ctrl-C in the terminal spares it.

    Its output is appended to `log`, which is for the owner alone. With `die_with_parent` the
    kernel kills it when the calling thread ends.
    """
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
            preexec_fn=_die_with_parent if die_with_parent else None,
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
    _seen: set[int] = field(default_factory=set[int])

    def environment(self) -> dict[str, str]:
        """This process's environment with the family's mark."""
        return {**os.environ, _MARK: self.mark}

    def members(self) -> list[psutil.Process]:
        """The living members, the calling process never among them."""
        return [
            process
            for process in psutil.process_iter()
            if process.pid != os.getpid() and self._carries_mark(process)
        ]

    def tidy(self) -> None:
        """Free what members left behind that have died since the last call."""
        living = {process.pid for process in self.members()}
        _unlink(_openmp_segments(self._seen - living))
        self._seen = living

    def end(self, *, deadline: float) -> list[int]:
        """Terminate every member, kill what is left after `deadline` seconds, free its memory.

        Returns the process ids it had to kill.
        """
        members = self.members()
        self._seen |= {process.pid for process in members}
        segments = set[Path]().union(*(_mapped_segments(process.pid) for process in members))
        for process in members:
            _signal(process, signal.SIGTERM)
        psutil.wait_procs(members, timeout=deadline)
        stubborn = self.members()  # those born in between too
        for process in stubborn:
            _signal(process, signal.SIGKILL)
        psutil.wait_procs(stubborn, timeout=10)
        self.tidy()
        held = set[Path]().union(*map(_mapped_segments, psutil.pids())) if segments else set[Path]()
        _unlink(segments - held)
        return [process.pid for process in stubborn]

    def _carries_mark(self, process: psutil.Process) -> bool:
        try:
            entries = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
            return (
                f"{_MARK}={self.mark}".encode() in entries
                and process.status() != psutil.STATUS_ZOMBIE
            )
        except (OSError, psutil.NoSuchProcess):
            return False  # gone, or somebody else's


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


def _openmp_segments(dead: Iterable[int]) -> list[Path]:
    """By these Intel's OpenMP registers a process; one that was killed leaves its own behind."""
    return [path for pid in dead for path in Path("/dev/shm").glob(f"__KMP_REGISTERED_LIB_{pid}_*")]
