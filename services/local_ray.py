"""A Ray head of our own on this machine: loopback only, behind a token, gone without a trace.

Ray's processes hang on one `ray start --block`, which ends them when it ends; `ray stop`
would end everybody's. Only the address and the environment to reach it leave this file.
"""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from services.errors import CannotStart
from services.private_files import write_private
from services.processes import Family, spawn, stop
from services.settings import Settings

# Ray's sockets must lie within 107 bytes, which a data folder may exceed.
_TEMP_PREFIX = "strop-ray-"


def loopback_only(ray_params: Any, head: bool) -> None:
    """Hook of `ray start` (RAY_START_HOOK): what its options do not offer.

    Without it the head takes the machine's address, and three helpers listen beside it.
    """
    ray_params.node_ip_address = "127.0.0.1"
    ray_params.ray_client_server_port = None
    ray_params.no_monitor = True


class LocalRay:
    """A head that is starting or runs; `address` is None until it can be reached."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        log: Path,
        folder: Path,
        token_file: Path,
        metrics_port: int,
        said_before: int,
    ) -> None:
        """Use `start`."""
        self.process = process
        self.log = log
        self._said_before = said_before
        self._folder = folder
        self._token_file = token_file
        self.metrics_port = metrics_port
        self.metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"

    @classmethod
    def start(cls, settings: Settings, family: Family, metrics_port: int) -> LocalRay:
        """Start the head in the data folder's name, after removing what a killed one left.

        Its metrics are at `metrics_port`; 0 takes a free one.
        """
        record = settings.home / "ray_folder"
        if record.exists():
            _remove(Path(record.read_text(encoding="utf-8")))
        folder = Path(tempfile.mkdtemp(prefix=_TEMP_PREFIX))
        write_private(record, str(folder))
        write_private(settings.ray_token_file, secrets.token_hex(32))
        metrics_port = _free_port(metrics_port)
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
            *("--port=0", "--dashboard-agent-listen-port=0", "--include-dashboard=false"),
            *("--disable-usage-stats", f"--temp-dir={folder}"),
            f"--metrics-export-port={metrics_port}",
        ]
        if settings.cpus is not None:
            command.append(f"--num-cpus={settings.cpus}")
        log = settings.logs_folder / "ray.log"
        said_before = log.stat().st_size if log.exists() else 0
        return cls(
            spawn(
                command,
                log=log,
                env={
                    **family.environment(),
                    **_client_environment(settings.ray_token_file),
                    "RAY_START_HOOK": f"{__name__}.{loopback_only.__name__}",
                    "DASHBOARD_METRIC_PORT": "0",
                },
                # It must end its own: agents whose raylet is killed linger for a minute.
                at_parents_death=signal.SIGTERM,
            ),
            log,
            folder,
            settings.ray_token_file,
            metrics_port,
            said_before,
        )

    @property
    def address(self) -> str | None:
        """`host:port`, as soon as the head answers."""
        file = self._folder / "ray_current_cluster"
        return (file.read_text(encoding="utf-8").strip() or None) if file.exists() else None

    @property
    def was_late(self) -> bool:
        """Whether the head gave itself up because its processes took more than its own 30 s."""
        said = self.log.read_bytes()[self._said_before :]
        return b"timed out during startup" in said

    def environment(self) -> dict[str, str]:
        """What a process needs besides the address to be let in."""
        return _client_environment(self._token_file)

    def stop(self, family: Family, logs: Path, *, deadline: float) -> None:
        """End the head and every process of the family; keep its logs under `logs`."""
        family.members()  # a look while they have a parent: agents hide their mark behind a title
        stop(self.process, deadline=deadline)
        family.end(deadline=5)
        shutil.rmtree(logs, ignore_errors=True)
        for session in self._folder.glob("session_2*"):
            shutil.copytree(session / "logs", logs, ignore_dangling_symlinks=True)
        _remove(self._folder)


def _free_port(wanted: int) -> int:
    """`wanted`, or any free port for 0. Raises CannotStart when it is taken."""
    try:
        with socket.create_server(("127.0.0.1", wanted)) as probe:
            return probe.getsockname()[1]
    except OSError as error:
        raise CannotStart(
            f"Ray's metrics cannot listen on port {wanted}: {error.strerror}; set "
            "STROP_METRICS_PORT to a free one (0 takes any)"
        ) from error


def _client_environment(token_file: Path) -> dict[str, str]:
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file),
        # Despite its name the switch works everywhere: without it Ray replaces the loopback
        # address it is given by the machine's own, where nobody listens.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }


def _remove(folder: Path) -> None:
    if folder.name.startswith(_TEMP_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)
