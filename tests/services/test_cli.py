"""The `strop` command, as real processes against a real API."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from services.cli.follow import follow
from tests.services.running import Api

STROP = [sys.executable, "-m", "services.cli"]
FAILURE = {"code": "boom", "message": "it broke", "param": None}


class Strop:
    """The command with an environment of its own."""

    def __init__(self, **env: str) -> None:
        mine = {name: value for name, value in os.environ.items() if not name.startswith("STROP_")}
        self._env = {**mine, "COLUMNS": "200", **env}

    async def __call__(self, *args: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run to the end; the exit status must be `status`, and no traceback may show."""
        process = await self.start(*args)
        out, err = await asyncio.wait_for(process.communicate(), 60)
        done = subprocess.CompletedProcess(
            args, process.returncode or 0, out.decode(), err.decode()
        )
        assert done.returncode == status, done
        assert "Traceback" not in done.stderr
        return done

    async def start(self, *args: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *STROP,
            *args,
            env=self._env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A shell's background job ignores Ctrl-C, and would hand that down.
            preexec_fn=_hear_ctrl_c,
        )


def _hear_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def strop(api: Api, tmp_path: Path) -> Strop:
    return Strop(STROP_URL=api.url, STROP_API_KEY=api.key, STROP_HOME=str(tmp_path / "home"))


@pytest.fixture
def job_file(task_file: Path) -> Path:
    path = task_file.parent / "job.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "name": "small",
                "model": {"path": "smollm2-135m-instruct"},
                "tasks": {"train": task_file.name},
            }
        )
    )
    return path


async def test_a_job_is_submitted_listed_shown_and_cancelled(
    strop: Strop, job_file: Path, api: Api
) -> None:
    submitted = json.loads((await strop("submit", str(job_file), "--json")).stdout)
    job_id = submitted["id"]
    assert submitted["training_file"] == str(job_file.parent / "tasks.jsonl")
    assert json.loads((await strop("jobs", "--json")).stdout) == submitted
    assert json.loads((await strop("show", job_id, "--json")).stdout) == submitted
    await api.store.claim("w1")
    step = {"kind": "step", "step": 2, "steps": 9, "reward_mean": 0.5}
    await api.store.append_event(job_id, message="s", type="metrics", data=step)
    for table in ((await strop("jobs")).stdout, (await strop("show", job_id)).stdout):
        assert job_id in table
        assert "small" in table
        assert "running" in table
    assert "2/9" in (await strop("jobs")).stdout
    assert "running, stopping" in (await strop("cancel", job_id)).stdout
    await api.store.transition(job_id, "cancelled")
    assert json.loads((await strop("cancel", job_id, "--json")).stdout)["status"] == "cancelled"
    lines = (await strop("logs", job_id, "--json")).stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [str(n + 1) for n in range(len(lines))]
    assert json.loads(lines[-1])["data"]["status"] == "cancelled"


async def test_a_job_is_steered_from_the_command_line(
    strop: Strop, job_file: Path, api: Api
) -> None:
    submitted = await strop(
        "submit", str(job_file), "--upload", "--priority", "3", "--max-runtime", "2h",
        "-m", "team=a", "--json",
    )  # fmt: skip
    job = json.loads(submitted.stdout)
    job_id = job["id"]
    assert job["training_file"].startswith("file-")
    assert (job["priority"], job["max_runtime"], job["metadata"]) == (3, 7200.0, {"team": "a"})
    assert "is paused" in (await strop("jobs", "pause", job_id)).stdout
    assert "is queued" in (await strop("jobs", "resume", job_id)).stdout
    changed = await strop("jobs", "set", job_id, "--priority", "7", "--json")
    assert json.loads(changed.stdout)["priority"] == 7
    claimed = await api.store.claim("w1")
    assert claimed is not None
    await api.store.append_event(
        job_id, message="s", type="metrics", data={"kind": "step", "step": 1, "reward_mean": 0.5}
    )
    saved = await api.store.add_checkpoint(job_id, claimed.token, 1, "/x/step-1", {})
    assert saved.id in (await strop("jobs", "checkpoints", job_id)).stdout
    metrics = json.loads((await strop("jobs", "metrics", job_id)).stdout)
    assert (metrics["step"], metrics["metrics"]) == (1, {"reward_mean": 0.5})
    await api.store.transition(job_id, "cancelled", token=claimed.token)
    again = await strop("jobs", "retry", job_id, "--checkpoint", saved.id, "--json")
    assert json.loads(again.stdout)["retry_of"] == job_id
    listed = (await strop("jobs", "-m", "team=a", "--json")).stdout.splitlines()
    assert len(listed) == 2
    assert "nothing to change" in (await strop("jobs", "set", job_id, status=2)).stderr


@pytest.mark.parametrize(("outcome", "status"), [("succeeded", 0), ("failed", 1)])
async def test_following_ends_with_the_job_and_its_outcome_is_the_exit_status(
    strop: Strop, job_file: Path, api: Api, outcome: Any, status: int
) -> None:
    running = asyncio.create_task(strop("submit", str(job_file), "--follow", status=status))
    async with asyncio.timeout(60):
        while (job := await api.store.claim("w1")) is None:
            await asyncio.sleep(0.02)
    step = {
        "kind": "step", "step": 1, "steps": 2, "reward_mean": 0.25, "tokens_per_s": 1234.5,
        "seconds_left": 61.2,
    }  # fmt: skip
    await api.store.append_event(job.id, message="s", type="metrics", data=step)
    error: Any = FAILURE if outcome == "failed" else None
    await api.store.transition(job.id, outcome, error=error)
    out = (await running).stdout
    assert "step 1/2 · reward 0.250 · 1,234 tokens/s · 0:01:01 left" in out
    assert f"Job {outcome}" in out.splitlines()[-1]
    assert ("it broke" in out) == (outcome == "failed")
    again = (await strop("logs", "-f", job.id, "--json", status=status)).stdout.splitlines()
    assert len(again) == 4


async def test_ctrl_c_detaches_and_does_not_cancel(strop: Strop, job_file: Path, api: Api) -> None:
    process = await strop.start("submit", str(job_file), "--follow")
    assert process.stdout is not None
    first = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
    job_id = first.split()[0]
    await asyncio.wait_for(process.stdout.readline(), 60)  # an event: it follows
    process.send_signal(signal.SIGINT)
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 130
    assert f"detached; {job_id} goes on" in errors.decode()
    assert "Traceback" not in errors.decode()
    job = await api.store.get_job(job_id)
    assert (job.status, job.request) == ("queued", None)


async def test_config_prints_the_resolved_spec_and_the_schema(job_file: Path) -> None:
    strop = Strop()
    resolved = yaml.safe_load((await strop("config", str(job_file))).stdout)
    assert resolved["sampling"]["group_size"] == 8
    assert resolved == json.loads((await strop("config", str(job_file), "--json")).stdout)
    again = job_file.with_name("again.yaml")
    again.write_text(yaml.safe_dump(resolved))
    assert yaml.safe_load((await strop("config", str(again))).stdout) == resolved
    assert "sampling" in json.loads((await strop("config", "--schema")).stdout)["properties"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("a: [", "is not YAML"),
        ("[]", "a job is a mapping"),
        ("{model: {path: m}, tasks: {train: t}, stepz: 3}", "stepz"),
        ("{model: {path: m}, tasks: {train: t}, sampling: {group_size: 1}}", "group_size is 1"),
    ],
)
@pytest.mark.parametrize("command", ["config", "submit"])
async def test_a_bad_job_file_is_exit_status_2_and_names_the_trouble(
    tmp_path: Path, command: str, content: str | None, said: str
) -> None:
    path = tmp_path / "bad.yaml"
    if content is not None:
        path.write_text(content)
    error = (await Strop()(command, str(path), status=2)).stderr
    assert str(path) in error
    assert said in error


async def test_what_the_service_refuses_is_exit_status_2(
    strop: Strop, job_file: Path, api: Api
) -> None:
    (job_file.parent / "tasks.jsonl").write_text('{"prompt": "?"}\nnot json\n')
    error = (await strop("submit", str(job_file), status=2)).stderr
    assert "2 problems" in error
    assert "line 1" in error
    assert "line 2" in error
    assert (await api.store.list_jobs())[0] == []
    for command in ("show", "logs", "cancel"):
        error = (await strop(command, "ftjob-x", status=2)).stderr
        assert error == "strop: there is no job 'ftjob-x'\n"
    assert "ftjob-x" in (await strop("logs", "-f", "ftjob-x", status=2)).stderr


async def test_without_service_or_key_each_command_says_so_in_one_line(
    api: Api, job_file: Path, tmp_path: Path
) -> None:
    home = str(tmp_path / "home")
    cases = [
        (Strop(STROP_HOME=home, STROP_URL=api.url), "no API key: set STROP_API_KEY"),
        (Strop(STROP_HOME=home, STROP_API_KEY=""), "no API key: set STROP_API_KEY"),
        (Strop(STROP_HOME=home, STROP_URL=api.url, STROP_API_KEY="strop_a_b"), "not known"),
        (
            Strop(STROP_HOME=home, STROP_URL="http://127.0.0.1:1", STROP_API_KEY="x"),
            "no service answers at http://127.0.0.1:1",
        ),
        (Strop(STROP_HOME=home, STROP_URL="nonsense", STROP_API_KEY="x"), "nonsense"),
        (Strop(STROP_HOME=home, STROP_PORT="many"), "STROP_PORT is 'many'"),
    ]
    for strop, said in cases:
        for args in (("jobs",), ("submit", str(job_file))):
            error = (await strop(*args, status=2)).stderr
            assert said in error
            assert len(error.splitlines()) == 1


async def test_keys_are_made_listed_rotated_and_revoked_on_the_command_line(
    api: Api, store_url: str, tmp_path: Path
) -> None:
    first = await Strop(STROP_REDIS_URL=store_url)(
        "keys", "create", "operator", "--scope", "admin", "--local", "--json"
    )
    operator = Strop(STROP_URL=api.url, STROP_API_KEY=json.loads(first.stdout)["api_key"])
    bob = (await operator("keys", "create", "bob", "--tenant", "team-b", "--days", "7")).stdout
    key = await api.keys.check(bob.strip())
    assert key is not None
    assert (key.name, key.tenant, "admin" in key.scopes) == ("bob", "team-b", False)
    user = Strop(STROP_URL=api.url, STROP_API_KEY=bob.strip())
    assert (await user("jobs", "--json")).stdout == ""
    assert "needs the scope admin" in (await user("keys", "list", status=2)).stderr
    again = (await operator("keys", "rotate", key.id, "--grace-hours", "0")).stdout.strip()
    assert await api.keys.check(bob.strip()) is None
    assert await api.keys.check(again) is not None
    await operator("keys", "revoke", key.id)
    assert await api.keys.check(again) is None
    listed = (await operator("keys", "list", "--tenant", "team-b", "--json")).stdout
    assert json.loads(listed)["revoked_at"] is not None
    assert (
        "no scope 'jobs'"
        in (await operator("keys", "create", "x", "--scope", "jobs", status=2)).stderr
    )
    nowhere = Strop(STROP_HOME=str(tmp_path))
    assert "no store" in (await nowhere("keys", "create", "bob", "--local", status=2)).stderr


def test_the_command_starts_without_the_weight_of_training() -> None:
    heavy = "{'torch', 'ray', 'vllm', 'transformers', 'numpy', 'redis', 'fastapi'}"
    code = f"import sys, services.cli.commands; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_on_a_terminal_progress_stays_on_one_line_and_messages_scroll() -> None:
    def event(message: str, **data: Any) -> dict[str, Any]:
        return {"created_at": 0, "level": "info", "message": message, "data": data}

    events = [
        event("Job started.", kind="status", status="running"),
        event("rollout", kind="phase", phase="rollout", step=0),
        event("step", kind="step", step=1, steps=2, reward_mean=0.5),
        event("held-out accuracy 0.4", kind="evaluation", accuracy=0.4),
        event("Job succeeded.", kind="status", status="succeeded"),
    ]
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, color_system=None)
    assert follow(events, console) == "succeeded"
    shown = screen.getvalue()
    for part in ("rollout", "step 1/2 · reward 0.500", "held-out accuracy 0.4", "Job succeeded."):
        assert part in shown
