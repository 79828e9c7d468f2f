"""A `strop up` of a test's own, and the proof that nothing of it is left."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

UP = [sys.executable, "-m", "services.cli", "up", "--json"]


def environment(home: Path, **env: str) -> dict[str, str]:
    mine = {
        name: value for name, value in os.environ.items() if not name.startswith(("STROP_", "RAY_"))
    }
    ours = {"STROP_HOME": str(home), "STROP_PORT": "0", "STROP_CPUS": "2"}
    # By default Ray's workers are the least of all, and other tests would starve them.
    return {**mine, **ours, "RAY_worker_niceness": "0", **env}


class Up:
    """A running `strop up`: what it printed, and every process below it."""

    def __init__(self, process: subprocess.Popen[str], facts: dict[str, Any]) -> None:
        self.process = process
        self.facts = facts
        self.below = [psutil.Process(process.pid), *psutil.Process(process.pid).children(True)]
        self.ports = {
            connection.laddr.port
            for child in self.below
            for connection in child.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }

    def named(self, *words: str) -> list[psutil.Process]:
        """The processes below it that are alive now and have one of these in their command line."""
        found: list[psutil.Process] = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.Error):  # a zombie, or gone
                line = " ".join(process.cmdline())
                if any(word in line for word in words):
                    found.append(process)
        return found

    def assert_gone(self) -> None:
        _, alive = psutil.wait_procs(self.below, timeout=30)
        assert alive == []
        for port in self.ports:
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", port)) != 0, port
        for segment in Path("/dev/shm").iterdir():
            assert not any(f"_{child.pid}_" in segment.name for child in self.below)


@contextmanager
def running(home: Path, **env: str) -> Generator[Up]:
    process = subprocess.Popen(
        UP, env=environment(home, **env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield Up(process, json.loads(line))
    finally:
        process.terminate()
        process.communicate(timeout=120)
