"""A family of processes ends whole, whatever its members do to hide."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from services.processes import Family, spawn, stop

SLEEP = "import time; time.sleep(600)"
# Starts a child of another session, says its pid, and ends: init adopts the child.
ORPHAN = (
    "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', "
    f"{SLEEP!r}], start_new_session=True); print(p.pid, flush=True)"
)
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1); {SLEEP}"


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_orphans_and_the_stubborn_are_ended_and_strangers_are_not(tmp_path: Path) -> None:
    family = Family("a-test-of-strop")
    log = tmp_path / "log"
    stranger = subprocess.Popen([sys.executable, "-c", SLEEP])
    try:
        orphan_maker = spawn([sys.executable, "-c", ORPHAN], log=log, env=family.environment())
        assert orphan_maker.wait(30) == 0
        orphan = int(log.read_text())
        stubborn_log = tmp_path / "stubborn"
        stubborn = spawn(
            [sys.executable, "-u", "-c", STUBBORN], log=stubborn_log, env=family.environment()
        )
        wait_until(stubborn_log.read_text)
        assert {process.pid for process in family.members()} == {orphan, stubborn.pid}
        assert family.end(deadline=0.5) == [stubborn.pid]
        assert family.members() == set()
        assert ended(orphan)
        assert ended(stubborn.pid)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait(30)


def test_shared_memory_of_killed_members_is_freed(tmp_path: Path) -> None:
    family = Family("a-test-of-strop")
    name = f"strop-test-{os.getpid()}"
    holder = (
        "import os, mmap, time\n"
        f"f = os.open('/dev/shm/{name}', os.O_RDWR | os.O_CREAT)\n"
        "os.ftruncate(f, 4096); m = mmap.mmap(f, 4096)\n"
        "open(f'/dev/shm/__KMP_REGISTERED_LIB_{os.getpid()}_0', 'w').close()\n"
        "print(1, flush=True); time.sleep(600)"
    )
    log = tmp_path / "log"
    process = spawn([sys.executable, "-c", holder], log=log, env=family.environment())
    openmp = Path(f"/dev/shm/__KMP_REGISTERED_LIB_{process.pid}_0")
    wait_until(log.read_text)
    family.tidy()
    assert openmp.exists()  # its owner lives
    family.end(deadline=5)
    assert not openmp.exists()
    assert not Path(f"/dev/shm/{name}").exists()


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    parent = (
        "import sys, time; from pathlib import Path; from services.processes import spawn\n"
        f"p = spawn([sys.executable, '-c', {SLEEP!r}], log=Path({str(tmp_path / 'child')!r}))\n"
        "print(p.pid, flush=True); time.sleep(600)"
    )
    log = tmp_path / "log"
    process = spawn([sys.executable, "-c", parent], log=log)
    wait_until(log.read_text)
    child = int(log.read_text())
    assert not ended(child)
    process.kill()
    process.wait(30)
    wait_until(lambda: ended(child))


def test_stopping_asks_first_and_kills_at_the_deadline(tmp_path: Path) -> None:
    willing = spawn([sys.executable, "-c", SLEEP], log=tmp_path / "a")
    assert stop(willing, deadline=30)
    assert willing.returncode == -signal.SIGTERM
    log = tmp_path / "b"
    stubborn = spawn([sys.executable, "-u", "-c", STUBBORN], log=log)
    wait_until(log.read_text)
    assert not stop(stubborn, deadline=0.2)
    assert stubborn.returncode == -signal.SIGKILL
