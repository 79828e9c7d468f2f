"""`strop up` as a user runs it: ready or one clear error, and nothing left in the end."""

from __future__ import annotations

import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import httpx
import psutil
import pytest

from services.local_parts import MOST_DEATHS, STEADY_SECONDS, Backoff
from tests.services.local_service import UP, environment, running


def refused(home: Path, **env: str) -> str:
    done = subprocess.run(
        UP, env=environment(home, **env), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.timeout(600)
def test_the_service_comes_up_private_survives_a_kill_and_leaves_nothing(tmp_path: Path) -> None:
    home, late = tmp_path / "home", tmp_path / "late"
    late.mkdir()
    # The first head does as Ray does where its processes take more than its own half a minute.
    (late / "sitecustomize.py").write_text(
        "import os, pathlib, sys\n"
        "once = pathlib.Path(__file__).with_name('once')\n"
        "if 'ray.scripts.scripts' in sys.orig_argv and not once.exists():\n"
        "    once.touch()\n"
        "    print('Exception: The current node timed out during startup.', flush=True)\n"
        "    os._exit(1)\n"
    )
    with running(home, PYTHONPATH=str(late)) as first:
        assert (late / "once").exists()
        url, key_file = first.facts["url"], Path(first.facts["api_key_file"])
        key = key_file.read_text()
        for secret in (key_file, home / "ray_token", home / "valkey" / "url"):
            assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        headers = {"Authorization": f"Bearer {key}"}
        listed = httpx.get(f"{url}/v1/fine_tuning/jobs", headers=headers)
        assert listed.json()["data"] == []
        metrics = httpx.get(f"{url}/metrics", headers=headers).text.splitlines()
        assert "strop_dispatchers 1.0" in metrics
        assert f"a service already runs on the data folder {home}" in refused(home)
        command_lines = [" ".join(process.cmdline()) for process in first.below]
        assert any("raylet" in line for line in command_lines)
        assert not any(key in line for line in command_lines)
        for process in first.below:
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    assert connection.laddr.ip.removeprefix("::ffff:") == "127.0.0.1"
        ray_folder = Path((home / "ray_folder").read_text())
        assert ray_folder.exists()
        first.process.kill()  # the worst case: nobody is left to tidy up
        first.assert_gone()

    with running(home) as second:
        assert not ray_folder.exists()
        assert key_file.read_text() == key  # the store kept it
        # A cluster that dies is started again, and the dispatcher with it.
        lost = {part: second.named(part)[0] for part in ("raylet/raylet", "dispatcher")}
        lost["raylet/raylet"].kill()
        deadline = time.monotonic() + 240
        again: list[psutil.Process] = []
        for part, process in lost.items():
            while not (found := [p for p in second.named(part) if p != process]):
                assert time.monotonic() < deadline, f"{part} was not started again"
                time.sleep(0.2)
            again += found
        ray_folder = Path((home / "ray_folder").read_text())
        second.process.send_signal(signal.SIGTERM)
        assert second.process.wait(120) == 0
        second.assert_gone()
        _, alive = psutil.wait_procs(again, timeout=30)
        assert alive == []
    assert not ray_folder.exists()
    assert not (home / "service.json").exists()
    assert not (home / "valkey" / "url").exists()


def test_a_part_that_dies_is_started_again_and_nothing_is_lost(tmp_path: Path) -> None:
    # A Ray address that nobody uses before there is a job: saves the start of a cluster.
    with running(tmp_path, STROP_RAY_ADDRESS="127.0.0.1:1") as service:
        key = Path(service.facts["api_key_file"]).read_text()
        url, headers = service.facts["url"], {"Authorization": f"Bearer {key}"}
        parts = ("valkey-server", "services.api", "services.dispatcher")
        killed = {part: service.named(part)[0] for part in parts}
        for process in killed.values():
            process.kill()
        deadline = time.monotonic() + 120
        for part in parts:
            while not [p for p in service.named(part) if p != killed[part]]:
                assert time.monotonic() < deadline, f"{part} was not started again"
                time.sleep(0.1)
        # The socket was never closed: the request waits for the new API, which knows the key.
        while True:
            listed = httpx.get(f"{url}/v1/fine_tuning/jobs", headers=headers, timeout=60)
            if listed.status_code != 503:  # the store may still read its log
                break
            assert time.monotonic() < deadline
        assert listed.json()["data"] == []
        again = [process for part in parts for process in service.named(part)]
        service.process.terminate()
        assert service.process.wait(120) == 0
        assert service.process.stderr is not None
        said = service.process.stderr.read()
        _, alive = psutil.wait_procs(again, timeout=30)
        assert alive == []
        service.assert_gone()
    for name in ("store", "api", "dispatcher"):
        assert f"{name} ended by itself with status -9" in said
        assert f"{name} is started again" in said


def test_a_part_that_keeps_dying_is_given_up() -> None:
    backoff = Backoff()
    pauses = [backoff.after(1.0) for _ in range(MOST_DEATHS + 1)]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 20, 20, None]
    steady = Backoff()
    assert {steady.after(STEADY_SECONDS) for _ in range(50)} == {0.5}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_starts_ends_it_cleanly(tmp_path: Path, number: int) -> None:
    process = subprocess.Popen(UP, env=environment(tmp_path), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline() == "store is ready\n"
    below = psutil.Process(process.pid).children(True)
    process.send_signal(number)
    assert process.wait(120) == 0
    assert process.stderr.read().splitlines()[-1] == "stopped before it was ready"
    _, alive = psutil.wait_procs(below, timeout=30)
    assert alive == []
    assert not Path((tmp_path / "ray_folder").read_text()).exists()


def test_a_port_in_use_is_one_clear_error_and_starts_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        began = time.time()
        error = refused(tmp_path, STROP_PORT=str(port))
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in error
    assert "STROP_PORT" in error
    assert not (tmp_path / "valkey").exists()
    assert not any(
        process.info["create_time"] > began and "raylet" in (process.info["name"] or "")
        for process in psutil.process_iter(["name", "create_time", "environ"])
        if (process.info["environ"] or {}).get("STROP_HOME") == str(tmp_path)
    )


def test_an_unreachable_redis_is_one_clear_error_without_its_password(tmp_path: Path) -> None:
    error = refused(tmp_path, STROP_REDIS_URL="redis://:secret@127.0.0.1:1/0")
    assert "the Redis server at redis://127.0.0.1:1/0 does not answer" in error
    assert "secret" not in error
    assert not (tmp_path / "api_key").exists()


def test_a_bad_variable_is_named(tmp_path: Path) -> None:
    assert "STROP_CPUS is '0'" in refused(tmp_path, STROP_CPUS="0")
