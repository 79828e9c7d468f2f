"""The zygote: a warm interpreter that forks one walled-in process a role.

Started by exec with an empty environment and one descriptor, a packet socket (0). The
first process only opens zygotes (`{"open": kind}`): a fork of it that imports what that
kind preloads, raises the shared walls and serves runs (`{"job": ..., "limits": ...}`) on a
socket of its own. It never reads job content: that goes straight to the fork, which by
then has raised its own walls. Ends when its socket closes, and all it forked with it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from verifiers.sandbox import canary, grader, guest, policy, seccomp, tester, walls
from verifiers.sandbox.policy import Limits, Mechanism, Reach
from verifiers.sandbox.protocol import Channel

CONTROL = 0
FIRST_FREE = 5
"""Descriptors below are a fork's to fill; a zygote keeps all of its own from here on."""
REHEARSALS = 10
FORK_S = 5.0
MAX_PACKET = 2**16
PRELOADED = {
    "python": (
        *("bisect", "collections", "copy", "dataclasses", "datetime", "decimal", "enum"),
        *("fractions", "functools", "heapq", "itertools", "math", "operator", "re"),
        *("string", "time", "types", "typing"),
    ),
    "numpy": ("numpy",),
    "native": (),
}

JOBS = {
    "test": ("candidate", "judge"),
    "call": ("candidate",),
    "program": ("program",),
    "grade": ("grader",),
    "canary": ("canary",),
    "compile": ("compiler",),
    "native": ("native",),
}
"""The processes of each job, in the order in which they are forked."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What all zygotes of one tree share; plain data, from the command line."""

    mechanisms: tuple[Mechanism, ...]
    readable: tuple[str, ...]
    scratch: str
    """A folder for compiled programs, which only the zygote named `native` can reach."""


def main() -> None:
    """Open zygotes until the supervisor closes the socket."""
    given = json.loads(sys.argv[1])
    scratch = os.path.join(given["temporary"], f"strop-sandbox-{os.urandom(8).hex()}")
    settings = Settings(tuple(given["mechanisms"]), tuple(given["readable"]), scratch)
    control = socket.socket(fileno=os.dup(CONTROL))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, CONTROL)
    os.close(nothing)
    for name in PRELOADED["python"]:
        importlib.import_module(name)
    os.mkdir(scratch, 0o700)
    try:
        _send(control, {"ready": True, "scratch": scratch})
        while packet := control.recv(MAX_PACKET):
            _open(control, json.loads(packet)["open"], settings)
    finally:
        with contextlib.suppress(ChildProcessError):
            while os.wait():
                pass
        _remove(scratch)


def _open(control: socket.socket, kind: str, settings: Settings) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    if os.fork() == 0:
        control.close()
        ours.close()
        _live(theirs, kind, settings, parent)
    theirs.close()
    _send(control, {"opened": True}, [ours.fileno()])
    ours.close()


def _live(control: socket.socket, kind: str, settings: Settings, parent: int) -> NoReturn:
    try:
        walls.die_with_parent()
        if os.getppid() == parent:
            for name in PRELOADED[kind]:
                importlib.import_module(name)
            control = _make_room(control)
            for _ in range(REHEARSALS):
                _rehearse()
            _settle(kind, settings)
            gc.collect()
            gc.freeze()
            _Zygote(control, settings).serve()
        os._exit(0)
    except BaseException as error:  # said aloud: the supervisor refuses to serve
        with contextlib.suppress(OSError):
            _send(control, {"error": f"{type(error).__name__}: {error}"})
        os._exit(1)


def _make_room(control: socket.socket) -> socket.socket:
    """Move the socket up and lay the null device below it, so that what is opened from now on
    stands in the way of no number that a fork needs."""
    moved = socket.socket(fileno=os.dup2(control.detach(), FIRST_FREE))
    for descriptor in range(1, FIRST_FREE):
        os.dup2(0, descriptor)
    os.closerange(FIRST_FREE + 1, 2**20)
    return moved


def _settle(kind: str, settings: Settings) -> None:
    if kind != "native":
        walls.settle(settings.mechanisms, Reach(settings.readable))
        return
    toolchain = tuple(path for path in policy.TOOLCHAIN if os.path.isdir(path))
    reach = Reach(executable=toolchain, writable=(settings.scratch,))
    walls.settle(settings.mechanisms, reach, last="namespaces" not in settings.mechanisms)


def _rehearse() -> None:
    """Play one job of our own through both sides, here, so that the interpreter has done
    for every fork what it does on first use: a page a fork changes is a page to copy."""
    handle = {"handle": 0}
    requests: list[Any] = [["load", "", "def f(x):\n    return x"], ["resolve", "f"]]
    given: list[Any] = [[handle, {"tuple": [1, "a", 1.5]}], {}]
    requests += [["named", "f", [[1], {}]], ["call", given]]
    replies = [{"value": None}, {"value": handle}, {"value": {"tuple": [1, "a", 1.5]}}]
    job = {"code": "", "shared": "", "setup": "", "entry_point": "f", "calls": None}
    job |= {"tests": [["assert f((1, 'a', 1.5)) == (1, 'a', 1.5)", False]]}
    stdout, stderr, modules = sys.stdout, sys.stderr, set(sys.modules)
    _converse(requests, lambda accused: guest.Guest(accused).serve())
    _converse([job], lambda judge: _converse(replies, lambda other: tester.serve(judge, other)))
    sys.stdout, sys.stderr = stdout, stderr
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def _converse(messages: Sequence[Any], part: Callable[[Channel], None]) -> None:
    """Have one side play its part against messages that are already written."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for message in messages:
            Channel(ours.fileno()).send(message)
        ours.shutdown(socket.SHUT_WR)
        part(Channel(theirs.fileno()))


@dataclass(frozen=True, slots=True)
class _Started:
    """A run: its number, how many processes it has, and how those that ended did."""

    number: int
    count: int
    endings: list[tuple[str, int, float]]


class _Zygote:
    def __init__(self, control: socket.socket, settings: Settings) -> None:
        self._control, self._settings = control, settings
        self._filters = walls.filters()
        self._pid = os.getpid()
        self._poll = select.poll()
        self._children: dict[int, tuple[int, str, _Started]] = {}

    def serve(self) -> None:
        """Fork and reap until the supervisor closes the socket."""
        self._poll.register(self._control, select.POLLIN)
        _send(self._control, {"ready": True})
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor in self._children:
                    self._reap(descriptor)
                    continue
                packet = self._control.recv(MAX_PACKET)
                if not packet:
                    return
                request = json.loads(packet)
                if "discard" in request:
                    _remove(self._place(request["discard"]))
                else:
                    self._start(request)

    def _start(self, request: dict[str, Any]) -> None:
        """Fork the roles of a job; hand over the supervisor's descriptors and the pidfds."""
        job, limits = request["job"], Limits(**request["limits"])
        place = self._place(request["program"]) if request["program"] else ""
        if job == "compile":
            os.mkdir(place, 0o700)
        ours, theirs = socket.socketpair()
        handed, lent = [ours.detach()], [theirs.detach()]
        channels = {JOBS[job][-1]: [lent[0]]}
        standard: list[int] = []
        if job == "test":  # the candidate's channel ends at the judge, not at us
            judges, candidates = (end.detach() for end in socket.socketpair())
            channels = {"candidate": [candidates], "judge": [lent[0], judges]}
            lent += [judges, candidates]
        elif job in ("program", "compile", "native"):
            for direction in (-1, 1, 1):
                lend, keep = os.pipe()[::-direction]
                standard.append(lend)
                handed.append(keep)
            lent += standard
        run = _Started(request["number"], len(JOBS[job]), [])
        # At once, one after the other: what is done between forks is copied for each.
        pids = [
            _fork()
            or _become(
                *(role, limits, (*standard, *channels[role]), 0 if standard else 3),
                *(self._settings, self._filters.get(role, self._filters["run"])),
                *(self._pid, place),
            )
            for role in JOBS[job]
        ]
        pidfds = [os.pidfd_open(pid) for pid in pids]
        for pidfd, pid, role in zip(pidfds, pids, JOBS[job], strict=True):
            self._children[pidfd] = (pid, role, run)
            self._poll.register(pidfd, select.POLLIN)
        _send(self._control, {"started": run.number}, [*handed, *pidfds])
        for descriptor in (*handed, *lent):
            os.close(descriptor)

    def _place(self, number: int) -> str:
        return os.path.join(self._settings.scratch, str(int(number)))

    def _reap(self, pidfd: int) -> None:
        """Note how a process ended; when it is the last of its run, say so."""
        pid, role, run = self._children.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        if role == "compiler":  # its passes; the group is its own while it is not reaped
            os.killpg(pid, signal.SIGKILL)
        _, status, usage = os.wait4(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        run.endings.append((role, code, usage.ru_utime + usage.ru_stime))
        if len(run.endings) == run.count:
            _send(self._control, {"ended": run.number, "endings": run.endings})


def _fork() -> int:
    """A fork, waited for while there are no process numbers: the threads of another sandbox's
    run may have taken all that the machine or the pod has, until that run is ended."""
    deadline = time.monotonic() + FORK_S
    while True:
        try:
            return os.fork()
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _become(
    role: str,
    limits: Limits,
    descriptors: Sequence[int],
    first: int,
    settings: Settings,
    fence: seccomp.Filter,
    parent: int,
    place: str,
) -> NoReturn:
    """The life of a fork: keep its own descriptors, from `first` on, raise the walls, then read
    its job."""
    try:
        for target, descriptor in enumerate(descriptors, first):
            os.dup2(descriptor, target)
        os.closerange(first + len(descriptors), 2**20)
        binary = os.path.join(place, "program")
        if role == "native":
            if os.open(binary, os.O_PATH | os.O_CLOEXEC) != policy.BINARY:
                raise OSError("the program has another descriptor than the filter allows")
            walls.only(binary, settings.mechanisms)
        if role == "compiler":
            os.setpgid(0, 0)
        if role in ("native", "compiler"):
            walls.renounce(settings.mechanisms)
        channel = Channel(3)
        try:
            walls.confine(settings.mechanisms, limits, fence, parent)
        except OSError as error:
            if role == "canary":
                channel.send([["walls", f"not be raised: {error}"]])
            raise
        match role:
            case "candidate":
                guest.Guest(channel).serve()
            case "judge":
                tester.serve(channel, Channel(4))
            case "program":
                guest.run_program(channel)
            case "compiler":
                language = str(channel.receive())
                command = (*policy.COMPILERS[language], *policy.COMPILER_OPTIONS, binary)
                environment = {"PATH": "/usr/bin:/bin", "TMPDIR": place, "LC_ALL": "C.UTF-8"}
                os.execve(f"/usr/bin/{command[0]}", command, environment)
            case "native":
                os.close(3)
                os.execve(policy.BINARY, ["program"], {})
            case "grader":
                grader.serve(channel)
            case _:
                bounds = [(name, value, value) for name, value in walls.rlimits(limits)]
                channel.send(canary.breaches(settings.mechanisms, Reach(settings.readable), bounds))
        os._exit(0)
    except BaseException:
        os._exit(1)


def _remove(folder: str) -> None:
    """A folder and all in it; no library's, which would bring three compressors along."""
    for path, folders, files in os.walk(folder, topdown=False):
        for name in files:
            os.unlink(os.path.join(path, name))
        for name in folders:
            inner = os.path.join(path, name)
            (os.unlink if os.path.islink(inner) else os.rmdir)(inner)
    os.rmdir(folder)


def _send(control: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    packed = struct.pack(f"{len(descriptors)}i", *descriptors)
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)
    control.sendmsg([json.dumps(message).encode()], [rights] if descriptors else [])
