"""Recordings: jobs that have ended, whole in one file, to be looked at where they never ran.

A zip of `recording.json`, which holds each job with its events and checkpoints as the REST API
tells them, and of `traces/<job>/`: every step file bit for bit, and of the vocabulary what the
steps name. Weights are not among it. Paths of the machine it was recorded on are cut: what
lay in the data folder is relative to it, task files and models keep their names.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, cast

import pyarrow.compute as pc
import pyarrow.parquet as pq

from services.errors import StropError
from services.jobs import Checkpoint, Event, Job
from services.redis_link import RedisLink
from services.store.restored import restore
from services.trace_vocabulary import (
    VOCABULARY_FILE,
    Vocabulary,
    read_vocabulary,
    write_vocabulary,
)
from services.traces import JOB_FILE, read_job, step_paths

DEMO = Path(__file__).with_name("recorded") / "quickstart.zip"
"""The run of examples/quickstart that comes with the package."""

FORMAT = 1
_INDEX = "recording.json"
_TOKENS = ("completion_ids", "alternative_ids", "top_ids")
_DAY = (1980, 1, 1, 0, 0, 0)  # equal contents, equal bytes

Json = dict[str, Any]


class BadRecording(StropError):
    """A file that is not a recording, or one of a later release; or a job that cannot be one."""

    code = "bad_recording"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A job as the REST API tells it, its events and checkpoints, and its trace folder."""

    job: Json
    events: Sequence[Json]
    checkpoints: Sequence[Json]
    traces: Path


def record(path: Path, jobs: Sequence[Recorded], home: Path) -> None:
    """Write these jobs, whose data folder is `home`, into a recording.

    Raises BadRecording when one has not ended or its traces are gone.
    """
    index: list[Json] = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for one in jobs:
            job_id = str(one.job["id"])
            if one.job["status"] not in ("succeeded", "failed", "cancelled"):
                raise BadRecording(f"job {job_id} is {one.job['status']}: wait until it has ended")
            steps = step_paths(one.traces)
            if not steps:
                raise BadRecording(f"{one.traces}: holds no step of job {job_id}")
            names = _names(one.job, home)
            told = {"job": one.job, "events": one.events, "checkpoints": one.checkpoints}
            index.append(cast("Json", _renamed(told, names)))
            folder = f"traces/{job_id}"
            spec = json.dumps(_renamed(read_job(one.traces), names), indent=2, ensure_ascii=False)
            _add(archive, f"{folder}/{JOB_FILE}", f"{spec}\n".encode())
            for step in steps:
                _add(archive, f"{folder}/{step.name}", step.read_bytes())
            if (vocabulary := read_vocabulary(one.traces, _tokens(steps))) is not None:
                _add(archive, f"{folder}/{VOCABULARY_FILE}", _written(vocabulary))
        text = json.dumps({"format": FORMAT, "jobs": index}, ensure_ascii=False, indent=1)
        _add(archive, _INDEX, text.encode())


async def play(path: Path, link: RedisLink, jobs_folder: Path) -> list[str]:
    """Put the jobs of a recording into a store and a folder of jobs; their ids.

    Raises BadRecording, and Conflict when the store has one of them.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            index = json.loads(archive.read(_INDEX))
            if index.get("format") != FORMAT:
                raise BadRecording(f"{path}: is a recording of another release of strop")
            found = [_read(one) for one in index["jobs"]]
            for job, events, checkpoints in found:
                _extract(archive, f"traces/{job.id}/", jobs_folder / job.id / "traces")
                await restore(link, job, events, checkpoints)
    except OSError as error:
        raise BadRecording(f"{path}: cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise BadRecording(f"{path}: is not a recording of strop: {error}") from error
    return [job.id for job, _, _ in found]


def _extract(archive: zipfile.ZipFile, prefix: str, folder: Path) -> None:
    """The files right below `prefix`; a name that leads elsewhere is not one of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in archive.namelist():
        own = name.removeprefix(prefix)
        if name.startswith(prefix) and own == PurePosixPath(own).name and own not in ("", ".."):
            (folder / own).write_bytes(archive.read(name))


def _read(told: Mapping[str, Any]) -> tuple[Job, list[Event], list[Checkpoint]]:
    """The records of the store, of what the API told."""
    wire: Json = told["job"]
    job = Job(
        id=wire["id"],
        tenant=wire["organization_id"],
        status=wire["status"],
        created_at=wire["created_at"],
        started_at=wire["started_at"],
        finished_at=wire["finished_at"],
        spec=wire["spec"],
        metadata=wire["metadata"],
        error=wire["error"],
        result={**(wire["result"] or {}), "recorded": True},
        progress=wire["progress"],
        rewards=[(step, reward) for step, reward in wire["reward_history"]],
        priority=wire["priority"],
        request=None,
        waiting=None,
        revision=wire["revision"],
        retry_of=None,
        source=None,
        asked={"notes": wire["notes"]},
        request_id=None,
        worker=None,
        token=0,
        attempts=0,
        claimed_at=None,
        phase=None,
        pulse_at=None,
        trained_tokens=wire["trained_tokens"] or 0,
        runtime_s=wire["runtime"],
        max_runtime_s=wire["max_runtime"],
        max_tokens=wire["max_tokens"],
    )
    events = [
        Event(int(e["id"]), e["created_at"], e["level"], e["type"], e["message"], e["data"])
        for e in told["events"]
    ]
    checkpoints = [
        Checkpoint(c["id"], job.id, c["step_number"], c["created_at"], "recorded", c["metrics"])
        for c in told["checkpoints"]
    ]
    return job, events, checkpoints


def _names(job: Mapping[str, Any], home: Path) -> list[tuple[str, str]]:
    """Paths of this machine and what stands for them, the longest first."""
    spec, result = job["spec"], job["result"] or {}
    named = [spec["model"]["path"], spec["tasks"]["train"], spec["tasks"]["holdout"]]
    named += [(spec.get("privileged") or {}).get("documents"), result.get("base_model")]
    names = {str(path): Path(path).name for path in named if path and Path(path).is_absolute()}
    names |= {f"{home}/": "", str(home): ".", str(Path.home()): "~"}
    return sorted(names.items(), key=lambda pair: len(pair[0]), reverse=True)


def _renamed(value: Any, names: Sequence[tuple[str, str]]) -> Any:
    if isinstance(value, str):
        for path, name in names:
            value = value.replace(path, name)
        return value
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        return {key: _renamed(part, names) for key, part in fields.items()}
    if isinstance(value, (list, tuple)):
        return [_renamed(part, names) for part in cast("Sequence[Any]", value)]
    return value


def _tokens(steps: Iterable[Path]) -> set[int]:
    """Every token that a step names."""
    found: set[int] = set()
    for step in steps:
        table = pq.read_table(step)
        for name in set(_TOKENS) & set(table.column_names):
            flat = table.column(name).combine_chunks().flatten()
            found.update(pc.call_function("unique", [flat]).to_pylist())
    return found


def _written(vocabulary: Vocabulary) -> bytes:
    with TemporaryDirectory() as folder:
        return write_vocabulary(folder, vocabulary).read_bytes()


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _DAY), data, zipfile.ZIP_DEFLATED, 9)
