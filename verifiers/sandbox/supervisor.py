"""The sandbox as its owner sees it: start it, prove its walls, run jobs, kill what is late.

`Sandbox()` starts the zygote tree by exec (empty environment, one descriptor) and has a
fork of it try the canary attacks; it refuses to exist when one succeeds or a wall cannot
be raised. Each run holds its channel and a pidfd of each of its processes; leaving the
run kills and reaps them all. The wall deadline is kept here, outside. Parses frames as
plain data and nothing else.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Generator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from verifiers.sandbox import policy, walls
from verifiers.sandbox.policy import Limits, Mechanism, Profile
from verifiers.sandbox.protocol import Channel

_BOOT = (
    "import sys; sys.path[:] = sys.argv[2:]; del sys.argv[2:]; "
    "from verifiers.sandbox.zygote import main; main()"
)
_MAX_PACKET = 2**16
_MAX_DESCRIPTORS = 8
_PRINTED = 2_000
NARROW_FRAME = 2**16
END_S = 10.0
"""Seconds a killed process may take to be reaped, and a fork to start."""


class SandboxError(RuntimeError):
    """The sandbox cannot serve: it did not start, a wall is missing, or it died."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How one process of a run ended: its role, exit code (negative: a signal), CPU time."""

    role: str
    code: int
    cpu_s: float


class Run:
    """The processes of one job. `channel` is the judge's (or the only process's).

    `standard` has the supervisor's ends of a program's standard input, output and error.
    """

    def __init__(
        self, zygote: _Zygote, number: int, descriptors: Sequence[int], count: int, deadline: float
    ) -> None:
        self._zygote, self._number = zygote, number
        self._descriptors = descriptors
        self._pidfds = descriptors[-count:]
        self.channel = Channel(descriptors[0], deadline)
        self.narrow_channel = Channel(descriptors[0], deadline, NARROW_FRAME)
        """The same, for a process that is not to be trusted with our memory and time."""
        self.standard = descriptors[1:-count]
        self.deadline = deadline
        self.endings: list[Ending] = []

    def close(self) -> list[Ending]:
        """Kill what still runs, reap everything, say how it ended. Idempotent."""
        if not self._descriptors:
            return self.endings
        for pidfd in self._pidfds:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        self._collect()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = ()
        return self.endings

    def close_descriptor(self, descriptor: int) -> None:
        """Close one of `standard` early: the end of a program's input."""
        os.close(descriptor)
        self._descriptors = [other for other in self._descriptors if other != descriptor]

    def wait(self) -> None:
        """Let the processes end by themselves, until the deadline."""
        poll = select.poll()
        for pidfd in self._pidfds:
            poll.register(pidfd, select.POLLIN)
        waiting = len(self._pidfds)
        while waiting and (left := self.deadline - time.monotonic()) > 0:
            for pidfd, _ in poll.poll(left * 1e3):
                poll.unregister(pidfd)
                waiting -= 1

    def _collect(self) -> None:
        while not self.endings:
            message, _ = self._zygote.receive(END_S)
            if message.get("ended") == self._number:
                self.endings += (Ending(*ending) for ending in message["endings"])


class Sandbox:
    """A tree of zygotes, and runs in it: one at a time, callers wait for each other.

    `profile` says how files are kept out of reach; by default it is what the kernel has.
    `mechanisms` are the walls to raise; the self-test refuses fewer than all of them.
    `unsafe` is for development where the kernel lacks a wall: nothing is refused, and
    `tainted` says so of everything that was run. Raises SandboxError. `close` it.
    """

    def __init__(
        self,
        *,
        profile: Profile | None = None,
        mechanisms: Collection[Mechanism] | None = None,
        unsafe: bool = False,
        start_s: float = 60.0,
    ) -> None:
        self.tainted = unsafe
        self.broken = False
        """A run failed by our fault; the sandbox is not to be used again."""
        self._start_s = start_s
        self._lock = threading.Lock()
        self._zygotes: dict[str, _Zygote] = {}
        self._numbers = self._programs = 0
        demanded = policy.MECHANISMS[profile or walls.profile()]
        raised = policy.UNSAFE if unsafe else tuple(demanded if mechanisms is None else mechanisms)
        settings = {
            "mechanisms": raised,
            "readable": policy.readable_paths(),
            "temporary": tempfile.gettempdir(),
        }
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._printed = os.memfd_create("sandbox-output", os.MFD_CLOEXEC)
        path = policy.import_path()
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOT),
                    *(json.dumps(settings), *path),
                ],
                stdin=theirs.fileno(),
                stdout=self._printed,
                stderr=self._printed,
                env={"LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                cwd="/",
                close_fds=True,
                start_new_session=True,
            )
        self._root = _Zygote(self._control, self._last_words)
        try:
            ready, _ = self._root.receive(start_s)
            self.scratch = str(ready["scratch"])
            """The folder in which programs are compiled; the first zygote removes it."""
            if not unsafe:
                self._prove(demanded, raised)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Process id of the first zygote."""
        return self._process.pid

    @contextlib.contextmanager
    def run(
        self, job: str, limits: Limits, seconds: float, *, kind: str = "python", program: int = 0
    ) -> Generator[Run]:
        """The processes of one job (see `zygote.JOBS`), killed and reaped on the way out.

        `seconds` of wall time start when they have been forked. `program` is the number
        of a compiled program. Raises SandboxError.
        """
        with self._lock, self._mark_broken():
            zygote = self._zygotes.get(kind) or self._open(kind)
            self._numbers += 1
            request = {"number": self._numbers, "job": job, "program": program}
            zygote.send(request | {"limits": asdict(limits)})
            while True:
                message, descriptors = zygote.receive(END_S)
                if message.get("started") == self._numbers:
                    break
            count = 2 if job == "test" else 1
            deadline = time.monotonic() + seconds
            run = Run(zygote, self._numbers, descriptors, count, deadline)
            for descriptor in descriptors[:-count]:
                os.set_blocking(descriptor, False)
            try:
                yield run
            finally:
                run.close()

    @contextlib.contextmanager
    def _mark_broken(self) -> Generator[None]:
        try:
            yield
        except SandboxError:
            self.broken = True
            raise

    @contextlib.contextmanager
    def new_program(self) -> Generator[int]:
        """A number for a program to be compiled; its files are removed on the way out.

        Enter the `compile` run first thing.
        """
        self._programs += 1
        try:
            yield self._programs
        finally:
            with self._lock, self._mark_broken():
                if "native" in self._zygotes:
                    self._zygotes["native"].send({"discard": self._programs})

    def close(self) -> None:
        """End every process of the sandbox. Idempotent."""
        for zygote in self._zygotes.values():
            zygote.close()
        self._zygotes.clear()
        self._control.close()
        if self._process.returncode is None:
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            os.close(self._printed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, kind: str) -> _Zygote:
        self._root.send({"open": kind})
        _, (descriptor,) = self._root.receive(self._start_s)
        zygote = _Zygote(socket.socket(fileno=descriptor), self._last_words)
        zygote.receive(self._start_s)
        self._zygotes[kind] = zygote
        return zygote

    def _prove(self, demanded: Collection[str], raised: Collection[str]) -> None:
        holes = [f"{name} is not in force" for name in demanded if name not in raised]
        try:
            with self.run("canary", Limits(), END_S) as run:
                holes += [
                    f"{mechanism}: could {attack}" for mechanism, attack in run.channel.receive()
                ]
        except (EOFError, TimeoutError) as error:
            holes.append(f"the canaries did not come back: {error}")
        if holes:
            raise SandboxError(f"the sandbox has holes and does not serve: {'; '.join(holes)}")

    def _last_words(self) -> str:
        size = os.fstat(self._printed).st_size
        printed = os.pread(self._printed, _PRINTED, max(0, size - _PRINTED))
        return printed.decode(errors="replace").strip()


_shared_lock = threading.Lock()
_shared: list[tuple[int, Sandbox]] = []


def shared(*, unsafe: bool = False, profile: Profile | None = None) -> Sandbox:
    """The sandbox of this process, started on first use and ended with it.

    One that failed a run is replaced. The arguments count when it is started. Raises
    SandboxError.
    """
    with _shared_lock:
        if _shared and (_shared[0][0] != os.getpid() or _shared[0][1].broken):
            _shared.clear()
        if not _shared:
            sandbox = Sandbox(unsafe=unsafe, profile=profile)
            atexit.register(sandbox.close)
            _shared.append((os.getpid(), sandbox))
        return _shared[0][1]


class _Zygote:
    """The control socket of one zygote."""

    def __init__(self, control: socket.socket, last_words: Any) -> None:
        self._control, self._last_words = control, last_words

    def send(self, message: dict[str, Any]) -> None:
        try:
            self._control.send(json.dumps(message).encode())
        except OSError as error:
            raise SandboxError(f"the zygote is gone: {error} {self._last_words()}") from None

    def receive(self, seconds: float) -> tuple[dict[str, Any], list[int]]:
        self._control.settimeout(seconds)
        descriptors = array.array("i")
        space = socket.CMSG_SPACE(_MAX_DESCRIPTORS * descriptors.itemsize)
        try:
            packet, ancillary, _, _ = self._control.recvmsg(_MAX_PACKET, space, 0)
        except TimeoutError:
            raise SandboxError(f"the zygote did not answer within {seconds:g} s") from None
        except OSError as error:
            raise SandboxError(f"the zygote is gone: {error}") from None
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        if not packet:
            raise SandboxError(f"the zygote died: {self._last_words()}")
        message: dict[str, Any] = json.loads(packet)
        if "error" in message:
            raise SandboxError(f"the zygote does not start: {message['error']}")
        return message, list(descriptors)

    def close(self) -> None:
        self._control.close()
