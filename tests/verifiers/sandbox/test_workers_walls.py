"""The workers that stay: code that ran in one, through a hole in a judge, would get nowhere."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.verifiers import odd_worker
from tests.verifiers.sandbox.ordinary_user import ROOT, as_nobody
from verifiers import process
from verifiers.pool import PoolError, WorkerPool
from verifiers.process import Settings, WorkerProcess
from verifiers.sandbox import namespaces
from verifiers.sandbox.policy import MECHANISMS, Mechanism, Profile

TWELVE = {"kind": "math", "answer": "12"}
REMOTE = {"kind": "remote", "url": "http://127.0.0.1:9/", "secret": "team"}

ATTACKS = {
    "list the root folder": 'os.listdir("/")',
    "list /tmp": 'os.listdir("/tmp")',
    "list /proc": 'os.listdir("/proc")',
    "read /etc/passwd": 'open("/etc/passwd").read()',
    "read its own environment": 'open("/proc/self/environ", "rb").read()',
    "read its own memory": 'open("/proc/self/mem", "rb").read(1)',
    "read its parent's memory": 'open(f"/proc/{os.getppid()}/mem", "rb").read(1)',
    "read a file of its user": 'open("@SECRET@").read()',
    "write beside a database": 'open("@DATABASES@/x", "w")',
    "write to a database": 'open("@DATABASES@/shop.sqlite", "r+b")',
    "empty a database": 'os.truncate("@DATABASES@/shop.sqlite", 0)',
    "remove a database": 'os.unlink("@DATABASES@/shop.sqlite")',
    "rename a database": 'os.rename("@DATABASES@/shop.sqlite", "@DATABASES@/y")',
    "link a file of its user": 'os.link("@SECRET@", "@DATABASES@/y")',
    "leave a symbolic link": 'os.symlink("@SECRET@", "@DATABASES@/y")',
    "change a mode": 'os.chmod("@DATABASES@/shop.sqlite", 0o777)',
    "change an owner": 'os.chown("@DATABASES@/shop.sqlite", 1, 1)',
    "touch a database": 'os.utime("@DATABASES@/shop.sqlite", (0, 0))',
    "write to /tmp": 'open("/tmp/strop-attack", "w")',
    "write to /dev/shm": 'open("/dev/shm/strop-attack", "w")',
    "write to the library": 'open(os.__file__, "r+b")',
    "make a folder": 'os.mkdir("/tmp/strop-attack")',
    "write to the judge": f'open({str(Path(process.__file__))!r}, "a")',
    "truncate what is open to read": 'os.ftruncate(os.open("@DATABASES@/shop.sqlite", 0), 0)',
    "connect": 'socket.create_connection(("127.0.0.1", @PORT@))',
    "a socket of any kind": "socket.socket(socket.AF_UNIX)",
    "a netlink socket": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "a pair of sockets": "socket.socketpair()",
    "run a program": 'os.execv("/bin/true", ["true"])',
    "run a shell": 'subprocess.run(["/bin/sh", "-c", "true"])',
    "fork": "os.fork()",
    "fork by clone3": "libc(435, 0, 0)",
    "trace its parent": "libc(101, 16, os.getppid(), 0, 0)",
    "read a process": "libc(310, os.getppid(), 0, 0, 0, 0, 0)",
    "kill its parent": "os.kill(os.getppid(), 0)",
    "kill @VICTIM@": "os.kill(@VICTIM@, 9)",
    "kill its group": "os.killpg(0, 0)",
    "get hold of a process": "os.pidfd_open(@VICTIM@)",
    "make a memory file": 'os.memfd_create("x")',
    "set up io_uring": "libc(425, 1, 0)",
    "enter a namespace": "libc(272, 0x10000000)",
    "leave its session": "os.setsid()",
    "mount": 'libc(165, b"none", b"/tmp", b"tmpfs", 0, 0)',
    "change the root folder": 'os.chroot("/tmp")',
    "become another user": "os.setuid(1)",
    "get at keys": "libc(250, 0, 0, 0, 0, 0)",
    "load a program into the kernel": "libc(321, 0, 0, 0)",
    "change a limit of another": "libc(302, os.getppid(), 9, 0, 0)",
    "raise a hard limit": "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "open more files": "resource.setrlimit(resource.RLIMIT_NOFILE, (999, 999))",
    "be dumpable again": "prctl(4, 1)",
    "outlive its parent": "prctl(1, 0)",
    "switch off the filter": "prctl(22, 0)",
    "run code of the candidate's folder": 'open("@DATABASES@/../secret").read()',
}
_HEAD = """
import ctypes, os, resource, socket, subprocess
_libc = ctypes.CDLL(None, use_errno=True)
def _checked(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), "refused")
    return result
def libc(*arguments): return _checked(_libc.syscall(*arguments))
def prctl(*arguments): return _checked(_libc.prctl(*arguments, 0, 0, 0))
try:
    found = "got " + repr(ATTACK)
except (OSError, ValueError) as error:
    found = f"blocked: {error!r}"
"""


class Room:
    """A pool whose judge runs what it is told, and what there is to harm."""

    def __init__(self, folder: Path, profile: Profile) -> None:
        self.databases = folder / "databases"
        self.databases.mkdir()
        (self.databases / "shop.sqlite").write_bytes(b"a database")
        (folder / "secret").write_text("secret")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.victim = subprocess.Popen(["sleep", "600"])
        self.marks = {
            "@SECRET@": str(folder / "secret"),
            "@DATABASES@": str(self.databases),
            "@PORT@": str(self.listener.getsockname()[1]),
            "@VICTIM@": str(self.victim.pid),
        }
        self.pool = WorkerPool(1, databases=[self.databases], profile=profile)

    def close(self) -> None:
        self.pool.close()
        self.victim.kill()
        self.victim.wait()
        self.listener.close()

    def attempt(self, expression: str, spec: dict[str, str] = TWELVE) -> str:
        source = _HEAD.replace("ATTACK", expression)
        for mark, value in self.marks.items():
            source = source.replace(mark, value)
        verdict = self.pool.judge(spec, "run:" + source)
        return str(verdict.evidence.get("found", verdict))

    def state(self) -> list[tuple[str, int, int, int, bytes]]:
        paths = [self.databases, *sorted(self.databases.rglob("*"))]
        return [
            (
                p.name,
                p.stat().st_mode,
                p.stat().st_uid,
                p.stat().st_mtime_ns,
                p.read_bytes() if p.is_file() else b"",
            )
            for p in paths
        ]


@pytest.fixture(scope="module")
def room(profile: Profile, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "_BOOT", odd_worker.boot())
        room = Room(tmp_path_factory.mktemp("room"), profile)
        yield room
        room.close()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_from_within_a_worker_is_blocked_and_harms_nothing(room: Room, name: str) -> None:
    before = room.state()
    assert room.attempt(ATTACKS[name]).startswith("blocked: ")
    assert room.state() == before
    assert room.victim.poll() is None
    assert not Path("/tmp/strop-attack").exists()
    assert not Path("/dev/shm/strop-attack").exists()
    with pytest.raises(BlockingIOError):
        room.listener.accept()
    assert room.pool.judge(TWELVE, "12").status == "correct"


def test_a_worker_reads_the_databases_and_no_more_than_it_holds(room: Room) -> None:
    assert "got b'a database'" in room.attempt('open("@DATABASES@/shop.sqlite", "rb").read()')
    assert "got []" in room.attempt("[n for n in os.environ if n.startswith('STROP')]")


def test_a_worker_with_a_network_connects_and_no_more(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STROP_GRADER_SECRET_TEAM", "key")
    connect = 'socket.create_connection(("127.0.0.1", @PORT@)).send(b"x")'
    assert room.attempt(connect, REMOTE) == "got 1"
    room.listener.accept()[0].close()
    for name in (
        *("read /etc/passwd", "write to a database", "write to /tmp", "read a file of its user"),
        *("run a program", "fork", "kill @VICTIM@", "make a memory file", "trace its parent"),
        *("list the root folder", "list /proc", "enter a namespace", "get hold of a process"),
    ):
        assert room.attempt(ATTACKS[name], REMOTE).startswith("blocked: "), name
    listen = 'socket.create_server(("127.0.0.1", 0))'
    assert room.attempt(listen, REMOTE).startswith("blocked: ")
    assert room.attempt("socket.socket(socket.AF_PACKET)", REMOTE).startswith("blocked: ")


def _told(settings: Settings) -> str:
    """What a worker says at its start, or how it ended."""
    worker = WorkerProcess(settings)
    worker.channel.settimeout(60)
    try:
        data = worker.channel.recv(2**16)
    finally:
        ending = worker.end()
    return "it serves" if data else str(ending)


CASES = [(profile, name) for profile, names in MECHANISMS.items() for name in names]


@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize(("profile", "mechanism"), CASES)
def test_without_one_mechanism_a_worker_does_not_start(
    profile: Profile, mechanism: Mechanism, network: bool
) -> None:
    if profile == "namespaces" and not namespaces.available():
        pytest.skip("this user makes no namespaces here")
    walls: tuple[Mechanism, ...] = tuple(name for name in MECHANISMS[profile] if name != mechanism)
    said = _told(Settings(2**30, network=network, profile=profile, mechanisms=walls))
    wanted = {"no_new_privs": "cannot be raised", "namespaces": "could list /etc"}
    assert "SandboxError" in said
    assert f"{mechanism} is not in force" in said or "cannot be raised" in said
    if not (mechanism == "capabilities" and os.getuid() != 0):
        assert wanted.get(mechanism, f"{mechanism}: could") in said


def test_the_walls_hold_for_an_ordinary_user_too() -> None:
    # Not below pytest's own folder, which is closed to everybody else.
    with tempfile.TemporaryDirectory(prefix="strop-walls-") as root:
        Path(root).chmod(0o755)
        home = Path(root) / "home"
        home.mkdir()
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
        command += ["-k", "attack or databases or network", f"--basetemp={home}/pytest"]
        run = subprocess.run(
            as_nobody(command, home),
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home),
                 "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True, text=True, timeout=280,
        )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    assert int(re.findall(r"(\d+) passed", run.stdout)[0]) > len(ATTACKS)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
def test_a_pool_on_a_kernel_without_walls_refuses_unless_it_is_unsafe() -> None:
    start = "from verifiers.pool import WorkerPool\npool = WorkerPool(1, unsafe={})\n"
    judge = f"print(dict(pool.judge({TWELVE!r}, '12').evidence)['tainted'])\npool.close()"
    emulated = [sys.executable, "-m", "tests.verifiers.sandbox.emulated", "444:38,272:1,317:22"]
    runs = [
        subprocess.run(
            [*emulated, sys.executable, "-c", start.format(unsafe) + judge],
            cwd=ROOT, env={"PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, timeout=120,
        )
        for unsafe in (False, True)
    ]  # fmt: skip
    assert "PoolError" in runs[0].stderr
    assert runs[0].returncode == 1
    assert "without the walls" in runs[1].stdout, runs[1].stderr


def test_a_pool_says_which_wall_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    walls: tuple[Mechanism, ...] = tuple(
        name for name in MECHANISMS["landlock"] if name != "seccomp"
    )
    monkeypatch.setattr("verifiers.pool.Settings", partial(Settings, mechanisms=walls))
    with pytest.raises(PoolError, match="seccomp is not in force"):
        WorkerPool(1)
