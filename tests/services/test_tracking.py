"""Trackers get every step once, in the real libraries' own files, and hold up nobody."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import sqlite3
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import TypeAdapter, ValidationError

from services.jobs import EventLevel
from services.store import Store
from services.trackers.spec import PACKAGES, Tracker, problems
from services.tracking import Patience, Tracked, Tracking, hidden, points_of

QUICK = Patience(look_s=0.05, open_s=60, take_s=60, close_s=60, pauses_s=(0.1, 0.1))
SPEC = {"name": "job", "steps": 9}
ONE_OF_EACH = ("tensorboard", "wandb", "mlflow", "trackio")


def tracker(kind: str, **more: Any) -> Tracker:
    return TypeAdapter[Tracker](Tracker).validate_python({"kind": kind, **more})


class Job:
    """A claimed job, its folder, and what is told of it."""

    def __init__(self, store: Store, job_id: str, token: int, folder: Path) -> None:
        self.store, self.id, self.token = store, job_id, token
        self.folder = folder / "jobs" / job_id
        self.folder.mkdir(parents=True)
        self.tracked = Tracked(
            job_id, "job", self.folder, folder, {"seed": 0, "model": {"path": "m"}}
        )
        self.notes: list[str] = []
        self.told = 0
        """The number of the newest event."""

    def tracking(self, patience: Patience = QUICK) -> Tracking:
        return Tracking(self.tracked, self.store, self.note, patience)

    async def note(
        self, message: str, level: EventLevel = "info", *, key: str | None = None
    ) -> None:
        self.notes.append(message)

    async def step(self, number: int) -> None:
        await self.tell({
            "kind": "step", "step": number, "steps": 9, "reward_mean": number / 10,
            "phase_seconds": {"learn": 1.5}, "note": "text", "frozen": None, "reward_histogram": {"0.5": 1},
            "completion_tokens": 1,
        })  # fmt: skip

    async def evaluation(self, number: int) -> None:
        await self.tell({"kind": "evaluation", "step": number, "accuracy": 0.5, "correct": [1.0]})

    async def tell(self, data: dict[str, Any]) -> None:
        event = await self.store.append_event(
            self.id, message="", type="metrics", data=data, token=self.token
        )
        self.told = event.id

    def taken(self, kind: str) -> int:
        """The number of the newest event that a tracker has taken."""
        cursor = self.folder / "tracking" / f"{kind}.json"
        return json.loads(cursor.read_text())["event"] if cursor.exists() else 0

    @property
    def processes(self) -> list[psutil.Process]:
        """The trackers' processes, and all below them."""
        roots = [p for p in psutil.Process().children() if "services.trackers.process" in _line(p)]
        return [one for root in roots for one in (root, *root.children(recursive=True))]


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture
async def job(store: Store, tmp_path: Path) -> Job:
    made = await store.create_job(SPEC)
    claimed = await store.claim("worker")
    assert claimed is not None
    return Job(store, made.id, claimed.token, tmp_path)


async def until(
    what: Callable[[], bool] | Callable[[], Awaitable[bool]], seconds: float = 60
) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = what()
        if found if isinstance(found, bool) else await found:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not come to that in time")


# What the real libraries have written, as (name, step, value), in the order of the file.
Rows = list[tuple[str, int, float]]


def from_tensorboard(job: Job) -> Rows:
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

    rows: Rows = []
    for path in sorted((job.folder / "tracking" / "tensorboard").iterdir()):
        for record in _records(path.read_bytes()):
            event = Event.FromString(record)
            rows += [(v.tag, event.step, v.simple_value) for v in event.summary.value
                     if v.HasField("simple_value")]  # fmt: skip
    return rows


def _records(data: bytes) -> Iterator[bytes]:
    """TensorFlow's records: a length and its checksum, the record and its checksum."""
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        yield data[at + 12 : at + 12 + length]
        at += 16 + length


def from_mlflow(job: Job) -> Rows:
    from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]

    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    (run,) = client.search_runs(["0", *(e.experiment_id for e in client.search_experiments())])
    assert run.data.params["model.path"] == "m"
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "job"
    return [
        (name, metric.step, metric.value)
        for name in run.data.metrics
        for metric in client.get_metric_history(run.info.run_id, name)
    ]


def from_wandb(job: Job) -> Rows:
    """Each time an offline run goes on it gets one more file of the same run id."""
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportAttributeAccessIssue]

    rows: Rows = []
    files = sorted((job.folder / "tracking" / "wandb").glob(f"offline-run-*/run-{job.id}.wandb"))
    for data in (path.read_bytes() for path in files):
        for record in map(Record.FromString, _chunks(data)):
            if record.HasField("history"):
                items = {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json)
                    for item in record.history.item
                }
                rows += [
                    (name, int(items["step"]), value)
                    for name, value in items.items()
                    if name.startswith(("train/", "holdout/"))
                ]
    return rows


def _chunks(data: bytes, block: int = 32768) -> Iterator[bytes]:
    """LevelDB's log behind a header of 7 bytes: pieces of (checksum, length, kind), in blocks."""
    at, record = 7, b""
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield record
            record = b""


def from_trackio(job: Job) -> Rows:
    (database,) = (job.tracked.home / "trackio").glob("strop*.db")
    with sqlite3.connect(database) as connection:
        stored = connection.execute("SELECT step, metrics FROM metrics ORDER BY id").fetchall()
    return [
        (name, step, value)
        for step, metrics in stored
        for name, value in json.loads(metrics).items()
        if name.startswith(("train/", "holdout/"))
    ]


READ = {
    "tensorboard": from_tensorboard,
    "mlflow": from_mlflow,
    "wandb": from_wandb,
    "trackio": from_trackio,
}


def expected(steps: Sequence[int], evaluations: Sequence[int]) -> set[tuple[str, int, float]]:
    found = {("holdout/accuracy", step, 0.5) for step in evaluations}
    for step in steps:
        found |= {("train/reward_mean", step, step / 10), ("train/completion_tokens", step, 1.0),
                  ("train/phase_seconds/learn", step, 1.5)}  # fmt: skip
    return found


def rounded(rows: Rows) -> list[tuple[str, int, float]]:
    return sorted((name, step, round(value, 4)) for name, step, value in rows)


@pytest.mark.parametrize("kind", ONE_OF_EACH)
async def test_a_real_tracker_has_every_step_once_though_the_job_was_interrupted(
    kind: str, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, package = PACKAGES[kind]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{package} is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_of_mlflow(tmp_path))
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert problems([tracker(kind)]) == []

    first = job.tracking()
    first.start([tracker(kind)])
    await job.evaluation(0)
    for number in (1, 2):
        await job.step(number)
    await first.end("running")
    # While nobody runs the job nothing is handed on, and nothing is lost.
    await job.step(3)
    second = job.tracking()
    second.start([tracker(kind)])
    await job.step(4)
    await job.evaluation(4)
    await second.end("succeeded")

    assert [note for note in job.notes if "failed" in note or "given up" in note] == []
    assert rounded(READ[kind](job)) == sorted(expected((1, 2, 3, 4), (0, 4)))
    assert job.processes == []


def store_of_mlflow(folder: Path) -> str:
    """A database where MLflow's server is installed, else files."""
    if importlib.util.find_spec("sqlalchemy") and importlib.util.find_spec("alembic"):
        return f"sqlite:///{folder}/mlflow.db"
    return (folder / "mlruns").as_uri()


async def test_a_tracker_that_is_killed_is_started_again_and_nothing_is_lost(job: Job) -> None:
    tracking = job.tracking()
    tracking.start([tracker("tensorboard")])
    await job.step(1)
    await until(lambda: job.taken("tensorboard") == job.told)
    (process,) = job.processes
    process.send_signal(signal.SIGKILL)
    await job.step(2)
    await job.step(3)
    await until(lambda: job.taken("tensorboard") == job.told, 120)
    await tracking.end("succeeded")
    assert rounded(from_tensorboard(job)) == sorted(expected((1, 2, 3), ()))
    assert [note for note in job.notes if "its process ended" in note]


async def test_a_tracker_dies_with_whoever_started_it(job: Job, tmp_path: Path) -> None:
    script = (
        "import os, subprocess, sys; p = subprocess.Popen("
        "[sys.executable, '-m', 'services.trackers.process'], stdin=subprocess.PIPE);"
        "print(p.pid, flush=True); import time; time.sleep(60)"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = psutil.Process(int(await parent.stdout.readline()))
    parent.kill()
    await parent.wait()
    await until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


BROKEN = {
    "that refuses": "def init(**_): raise ConnectionError('https://ops:hunter2@wandb.local is away')",
    "that fails at every step": """
class Run:
    url, resumed = 'https://wandb.local/run', False
    def define_metric(self, *_, **__): ...
    def log(self, *_): raise OSError('the disk is full')
def init(**_): return Run()
""",
    "that dies": "import os\ndef init(**_): os._exit(3)",
    "that hangs when it is opened": "import time\ndef init(**_): time.sleep(600)",
    "that hangs at a step": """
import time
class Run:
    url, resumed = None, False
    def define_metric(self, *_, **__): ...
    def log(self, *_): time.sleep(600)
def init(**_): return Run()
""",
    "that hangs in a child at its end": """
import subprocess
class Run:
    url, resumed = None, False
    def define_metric(self, *_, **__): ...
    def log(self, *_): ...
    def finish(self, **_): subprocess.run(['sleep', '600'])
def init(**_): return Run()
""",
}


@pytest.mark.parametrize("fault", BROKEN)
async def test_a_tracker_of_another_is_not_held_up_by_one(
    fault: str, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "libraries" / "wandb.py"
    library.parent.mkdir()
    library.write_text(f"class Settings:\n    def __init__(self, **_): ...\n{BROKEN[fault]}")
    monkeypatch.setenv("PYTHONPATH", str(library.parent))
    monkeypatch.setenv("WANDB_API_KEY", "key-of-the-operator")
    brief = Patience(look_s=0.05, open_s=60, take_s=60, close_s=6, pauses_s=(0.1, 0.1))

    tracking = job.tracking(brief)
    tracking.start([tracker("wandb"), tracker("tensorboard")])
    for number in (1, 2, 3):
        await job.step(number)
    await until(lambda: job.taken("tensorboard") >= job.told)
    ended = time.monotonic()
    await tracking.end("succeeded")
    assert time.monotonic() - ended < brief.close_s + 30

    assert rounded(from_tensorboard(job)) == sorted(expected((1, 2, 3), ()))
    told = [note for note in job.notes if note.startswith("tracking: wandb")]
    assert told, "the failure is an event of the job"
    assert not [note for note in job.notes if "hunter2" in note or "key-of" in note]
    assert not [note for note in job.notes if note.startswith("tracking: tensorboard")]
    assert job.processes == []


async def test_a_tracker_that_always_fails_is_given_up_and_said_so(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb.py").write_text("Settings = dict\ndef init(**_): raise ValueError('no key')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    tracking = job.tracking()
    tracking.start([tracker("wandb")])
    await until(lambda: any("given up" in note for note in job.notes), 120)
    assert len(job.notes) == len(QUICK.pauses_s) + 1
    assert "ValueError: no key (tracking/wandb.log in the job's folder has more)" in job.notes[0]
    assert "Traceback" in (job.folder / "tracking" / "wandb.log").read_text()
    await tracking.end("succeeded")


async def test_a_tracker_that_does_not_answer_is_killed_at_its_deadline(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb.py").write_text(f"Settings = dict\n{BROKEN['that hangs at a step']}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    tracking = job.tracking(Patience(look_s=0.05, open_s=60, take_s=0.5, pauses_s=(60,)))
    tracking.start([tracker("wandb")])
    await job.step(1)
    await until(lambda: bool(job.notes))
    assert "no answer to `points` within 0.5 s" in job.notes[0]
    assert job.processes == []
    await tracking.end("succeeded")


async def test_the_process_of_a_tracker_sees_none_of_our_own_secrets(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb.py").write_text(
        "import os\nSettings = dict\ndef init(**_): raise ValueError(sorted(os.environ))"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("STROP_API_KEY", "strop_abc")
    tracking = job.tracking()
    tracking.start([tracker("wandb")])
    await until(lambda: bool(job.notes))
    await tracking.end("failed")
    log = (job.folder / "tracking" / "wandb.log").read_text()
    assert "PYTHONPATH" in log
    assert "STROP_" not in log
    assert "RAY_AUTH_TOKEN" not in log


def test_what_a_tracker_lacks_is_said_with_what_to_do() -> None:
    trackers = [tracker("tensorboard"), tracker("mlflow"), tracker("wandb")]
    nothing = problems(trackers, {}, lambda _: None)
    assert [text.partition(":")[0] for text in nothing] == [f"tracking.{n}" for n in range(3)]
    for text, package in zip(nothing, ("tensorboardX", "mlflow-skinny", "wandb"), strict=True):
        assert f"pip install {package}" in text

    environ = {"NETRC": "/nowhere"}
    unset = problems(trackers, environ, lambda _: object())
    assert len(unset) == 2
    assert "set MLFLOW_TRACKING_URI" in unset[0]
    assert "set WANDB_API_KEY" in unset[1]
    environ |= {"MLFLOW_TRACKING_URI": "https://mlflow", "WANDB_MODE": "offline"}
    assert problems(trackers, environ, lambda _: object()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "wandb", "api_key": "secret"},
        {"kind": "mlflow", "tracking_uri": "https://elsewhere"},
        {"kind": "tensorboard", "folder": "/etc"},
        {"kind": "comet"},
        {"project": "p"},
    ],
)
def test_a_job_names_no_key_no_address_and_no_folder(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter[Tracker](Tracker).validate_python(wrong)


def test_secrets_and_passwords_in_addresses_are_hidden() -> None:
    environ = {"WANDB_API_KEY": "abcdef", "MLFLOW_TRACKING_URI": "https://u:p@host/x"}
    said = hidden("401 of abcdef at https://u:p@host/x", environ)
    assert said == "401 of *** at https://***@host/x"


async def test_points_are_numbers_alone(job: Job) -> None:
    await job.step(1)
    await job.store.append_event(job.id, message="a word", data={"kind": "note"})
    points = list(points_of(await job.store.events(job.id)))
    assert [(step, set(values)) for step, _, values in points] == [
        (1, {"train/reward_mean", "train/phase_seconds/learn", "train/completion_tokens"})
    ]
