"""Debian's Prometheus with the shipped configuration, pointed at a service of a test's own."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from services.processes import spawn, stop
from tests.services.running import await_ready

SHIPPED = Path(__file__).parents[2] / "deploy" / "prometheus"


def configuration(folder: Path, service: str, ray: str, key: str) -> Path:
    """The shipped file with other addresses, a file with the key, and no patience."""
    config: dict[str, Any] = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(SHIPPED / name) for name in config["rule_files"]]
    ours, rays = config["scrape_configs"]
    assert [ours["job_name"], rays["job_name"]] == ["strop", "ray"]
    ours["static_configs"] = [{"targets": [urlsplit(service).netloc]}]
    (folder / ours["authorization"]["credentials_file"]).write_text(key)
    for name in ("file_sd_configs", "dns_sd_configs"):
        del rays[name]
    rays["static_configs"] = [{"targets": [urlsplit(ray).netloc]}]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


@contextmanager
def prometheus(folder: Path, service: str, ray: str, key: str) -> Generator[httpx.Client]:
    """A client of its API. The test is skipped where there is no Prometheus."""
    command = shutil.which("prometheus")
    if command is None:
        pytest.skip("prometheus is not installed (Debian's package of that name)")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url, log = f"http://127.0.0.1:{port}", folder / "log"
    process = spawn(
        [
            command,
            f"--config.file={configuration(folder, service, ray, key)}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={url.removeprefix('http://')}",
        ],
        log=log,
    )
    try:
        await_ready(f"{url}/-/ready", process, log, seconds=60)
        with httpx.Client(base_url=url, timeout=30) as client:
            yield client
    finally:
        stop(process, deadline=30)
