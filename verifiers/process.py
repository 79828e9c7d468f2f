"""One worker process as its parent sees it: start, talk, kill, reap.

Started by exec, never by fork alone: a clean environment, one socket as descriptor 0, a
memory file for what it prints, nothing else inherited. Knows nothing of queues.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

from verifiers import wire
from verifiers.sandbox import policy
from verifiers.sandbox.policy import Mechanism, Profile

_BOOT = (
    "import sys; sys.path[:] = sys.argv[2:]; del sys.argv[2:]; "
    "from verifiers.worker import main; main()"
)
_ENVIRONMENT = {
    "PATH": os.defpath,
    "LC_ALL": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",  # each would reserve 64 MiB of address space
}
OPERATORS = ("STROP_GRADER_", "STROP_SQL_")
_PRINTED = 2_000


_CRASHES = frozenset(
    -number
    for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a worker is told when it starts; plain data.

    memory      bytes of address space it may take up, whatever it does
    databases   folders that it may read
    network     whether it may connect to other machines
    profile     how files are kept out of reach; None: what the kernel has
    mechanisms  the walls to raise, all of the profile's by default; it refuses to serve
                with fewer
    unsafe      serve where walls are missing
    """

    memory: int
    databases: tuple[str, ...] = ()
    network: bool = False
    profile: Profile | None = None
    mechanisms: tuple[Mechanism, ...] | None = None
    unsafe: bool = False


def _operators() -> dict[str, str]:
    """What an operator says of remote graders and databases: keys, networks, connections."""
    return {name: value for name, value in os.environ.items() if name.startswith(OPERATORS)}


class WorkerProcess:
    """A running worker and the channel to it. Must be made by the thread that keeps it:
    the kernel kills the worker when that thread ends."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.channel, theirs = socket.socketpair()
        self._printed = os.memfd_create("worker-output", os.MFD_CLOEXEC)
        path = policy.import_path()
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-X", "utf8", "-c", _BOOT),
                    *(json.dumps(asdict(settings)), *path),
                ],
                stdin=theirs.fileno(),
                stdout=self._printed,
                stderr=self._printed,
                env=_ENVIRONMENT | (_operators() if settings.network else {}),
                cwd="/",
                close_fds=True,
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )
        self._pidfd = os.pidfd_open(self._process.pid)
        self.channel.setblocking(False)
        self._decoder = wire.Decoder()
        self._outgoing = bytearray()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def sending(self) -> bool:
        """Whether bytes are waiting until the channel can be written."""
        return bool(self._outgoing)

    def send(self, message: dict[str, Any]) -> None:
        """Queue a message and write what the channel takes now. Raises OSError."""
        self._outgoing += wire.encode(message)
        self.flush()

    def flush(self) -> None:
        """Write what the channel takes now. Raises OSError when the worker is gone."""
        while self._outgoing:
            try:
                sent = self.channel.send(self._outgoing)
            except BlockingIOError:
                return
            del self._outgoing[:sent]

    def receive(self) -> list[dict[str, Any]] | None:
        """Messages that have arrived; None at the end of the stream.

        Raises OSError or WireError when the channel is broken.
        """
        try:
            data = self.channel.recv(2**20)
        except BlockingIOError:
            return []
        return self._decoder.feed(data) if data else None

    def end(self) -> Ending:
        """Kill the worker if it still runs, reap it and free what belonged to it."""
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        size = os.fstat(self._printed).st_size
        printed = os.pread(self._printed, _PRINTED, max(0, size - _PRINTED))
        self.channel.close()
        os.close(self._pidfd)
        os.close(self._printed)
        return Ending(
            self._process.returncode,
            usage.ru_utime + usage.ru_stime,
            printed.decode(errors="replace").strip(),
        )


@dataclass(frozen=True, slots=True)
class Ending:
    """How a worker ended: its exit code (negative: a signal), all its CPU time, its last words."""

    code: int
    cpu_s: float
    printed: str

    @property
    def out_of_cpu(self) -> bool:
        """Whether the kernel ended it because its job used up its CPU time."""
        return self.code in (-signal.SIGPROF, -signal.SIGXCPU)

    @property
    def killed(self) -> bool:
        """Whether somebody killed it."""
        return self.code == -signal.SIGKILL

    @property
    def crashed(self) -> bool:
        """Whether it died of a signal that a process brings upon itself."""
        return self.code in _CRASHES

    def __str__(self) -> str:
        cause = signal.Signals(-self.code).name if self.code < 0 else f"exit code {self.code}"
        return f"{cause}: {self.printed}" if self.printed else cause
