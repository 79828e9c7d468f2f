"""A job's trackers: each follows the job's events in a process of its own, and holds up nobody.

The events in the store are the queue, so nothing is kept in memory and nothing is lost while a
tracker is away. A file in the job's folder says which event a tracker has taken; whoever runs
the job next goes on behind it, in the same run of the tracker, and tells no step twice. A
tracker that fails, or does not answer in time, is killed, told of in the job's events and tried
again; after that it is given up. Training never waits for one, but for at most `close_s` at
the end of the job, when its tiers are gone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from services.errors import Fenced, IllegalTransition, StoreUnavailable
from services.jobs import Event, EventLevel
from services.private_files import make_private_folder, write_private
from services.store import Store
from services.trackers.spec import Tracker

log = logging.getLogger(__name__)


class Tell(Protocol):
    """An event in the job's log; what has a key only once in the life of the job."""

    async def __call__(
        self, message: str, level: EventLevel = "info", *, key: str | None = None
    ) -> None: ...


_COUNTERS = frozenset({"kind", "step", "steps", "version", "seconds_left"})
_SECRETS = re.compile(r"KEY|TOKEN|SECRET|PASSWORD")


class TrackerFailed(RuntimeError):
    """A tracker refused, died or did not answer in time; the message says which."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a tracker may take, in seconds, and how often it may fail.

    look_s    between two looks for new events
    open_s    to open or reopen its run
    take_s    to take up to a page of events
    close_s   at the end of the job, to take the rest and close the run
    pauses_s  before each new try; when they are used up the tracker is given up
    steady_s  of service after which its failures are forgotten
    """

    look_s: float = 2.0
    open_s: float = 120.0
    take_s: float = 60.0
    close_s: float = 20.0
    pauses_s: Sequence[float] = (10.0, 60.0, 300.0)
    steady_s: float = 1800.0


@dataclass(frozen=True, slots=True)
class Tracked:
    """The job as its trackers are told of it; `folder` is its own, `home` all jobs' together."""

    id: str
    name: str
    folder: Path
    home: Path
    config: Mapping[str, Any]


class Tracking:
    """All trackers of one run of a job: `start`, and `end` whatever happens."""

    def __init__(
        self, job: Tracked, store: Store, tell: Tell, patience: Patience | None = None
    ) -> None:
        """`tell` appends to the job's events: where its runs are, and what failed."""
        self._job, self._store, self._tell = job, store, tell
        self._patience = patience or Patience()
        self._followers: list[tuple[_Follower, asyncio.Task[None]]] = []

    def start(self, trackers: Sequence[Tracker]) -> None:
        """Follow the job's events from now on."""
        for tracker in trackers:
            follower = _Follower(tracker, self._job, self._store, self._tell, self._patience)
            self._followers.append((follower, asyncio.create_task(follower.run())))

    async def end(self, outcome: str) -> None:
        """Hand on the rest and close every run as `outcome`, in at most `close_s` seconds."""
        tasks = [task for _, task in self._followers]
        for follower, _ in self._followers:
            follower.end(outcome)
        if tasks:
            await asyncio.wait(tasks, timeout=self._patience.close_s)
        for follower, task in self._followers:
            if not task.done():
                task.cancel()
                await follower.warn(
                    f"did not take everything within {self._patience.close_s:g} s of the job's end; "
                    "what it lacks is in the job's events"
                )
        await asyncio.gather(*tasks, return_exceptions=True)
        self._followers.clear()


class _Follower:
    """One tracker, from the first event it lacks to the end of the job."""

    def __init__(
        self, tracker: Tracker, job: Tracked, store: Store, tell: Tell, patience: Patience
    ) -> None:
        self._tracker, self._job, self._store = tracker, job, store
        self._tell, self._patience = tell, patience
        self._folder = job.folder / "tracking"
        self._cursor = self._folder / f"{tracker.kind}.json"
        self._taken = _taken(self._cursor)
        self._outcome: str | None = None
        self._ending = asyncio.Event()

    def end(self, outcome: str) -> None:
        """The job has ended; take what is left."""
        self._outcome = outcome
        self._ending.set()

    async def warn(self, what: str) -> None:
        """Tell of a failure."""
        log.warning("job %s: tracking: %s %s", self._job.id, self._tracker.kind, what)
        await self._say(what, "warn")

    async def _say(self, what: str, level: EventLevel, key: str | None = None) -> None:
        """Tell in the job's events, unless they are closed to us."""
        with suppress(Fenced, IllegalTransition, StoreUnavailable):
            await self._tell(f"tracking: {self._tracker.kind} {what}", level, key=key)

    async def run(self) -> None:
        """Serve, and try again after failures, until the job ends or the tracker is given up."""
        failures = 0
        while True:
            began = monotonic()
            try:
                await self._serve()
                return
            except TrackerFailed as error:
                told = str(error)
            except Exception as error:
                log.exception("job %s: tracking %s", self._job.id, self._tracker.kind)
                told = f"{type(error).__name__}: {error}"
            failures = 1 if monotonic() - began > self._patience.steady_s else failures + 1
            if failures > len(self._patience.pauses_s) or self._ending.is_set():
                await self.warn(f"is given up: {told}. Training goes on; the events have it all")
                return
            pause = self._patience.pauses_s[failures - 1]
            await self.warn(f"failed: {told}. Training goes on; it is tried again in {pause:g} s")
            await self._wait(pause)

    async def _serve(self) -> None:
        """Hand events on as they come. Returns when the run is closed."""
        async with _Process(self._tracker, self._job, self._folder, self._patience) as process:
            if process.url:
                await self._say(f"shows this job at {process.url}", "info", process.url)
            while True:
                ending = self._ending.is_set()  # asked first: what was told before is taken
                await self._catch_up(process)
                if ending:
                    await process.ask({"close": self._outcome}, self._patience.close_s)
                    return
                await self._wait(self._patience.look_s)

    async def _catch_up(self, process: _Process) -> None:
        """Hand on every event that there is."""
        while True:
            try:
                page = await self._store.events(self._job.id, after=self._taken)
            except StoreUnavailable as error:
                log.warning("job %s: %s", self._job.id, error)
                return
            if not page:
                return
            if points := list(points_of(page)):
                await process.ask({"points": points}, self._patience.take_s)
            self._taken = page[-1].id
            await asyncio.to_thread(write_private, self._cursor, json.dumps({"event": self._taken}))

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)


class _Process:
    """A tracker's process (services/trackers/process.py): opened on entry, gone on exit."""

    def __init__(self, tracker: Tracker, job: Tracked, folder: Path, patience: Patience) -> None:
        self._tracker, self._job, self._folder = tracker, job, folder
        self._patience = patience
        self._process: asyncio.subprocess.Process | None = None
        self.url: str | None = None
        """Where a person can look at the run, if it has a place."""

    async def __aenter__(self) -> _Process:
        kind = self._tracker.kind
        await asyncio.to_thread(make_private_folder, self._folder)
        try:
            descriptor = os.open(
                self._folder / f"{kind}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
            )
            try:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "services.trackers.process",
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                    stderr=descriptor, env=environment(self._job), start_new_session=True,
                )  # fmt: skip
            finally:
                os.close(descriptor)
            name = getattr(self._tracker, "name", None) or self._job.name
            run = {"id": self._job.id, "name": name, "folder": str(self._folder)}
            run["config"] = self._job.config
            opening = {"tracker": self._tracker.model_dump(mode="json"), "run": run}
            url = await self.ask({"open": opening}, self._patience.open_s)
            self.url = None if url is None else hidden(url)
        except BaseException:
            await self._kill()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._kill()

    async def ask(self, line: Mapping[str, Any], seconds: float) -> str | None:
        """Send a line and wait for its answer. Raises TrackerFailed."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        (what,) = line
        try:
            async with asyncio.timeout(seconds):
                process.stdin.write(json.dumps(line).encode() + b"\n")
                with suppress(ConnectionError):  # it has died; its last words are below
                    await process.stdin.drain()
                answer = await process.stdout.readline()
        except TimeoutError:
            raise TrackerFailed(f"no answer to `{what}` within {seconds:g} s") from None
        if not answer:
            raise TrackerFailed(f"its process ended at `{what}`; {self._log} says why")
        said = json.loads(answer)
        if "error" in said:
            raise TrackerFailed(f"{hidden(said['error'])[:500]} ({self._log} has more)")
        return said["ok"]

    @property
    def _log(self) -> str:
        return f"tracking/{self._tracker.kind}.log in the job's folder"

    async def _kill(self) -> None:
        """End the process and all it started."""
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 2 if process.returncode is None else 0)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its session, whose first process it was
        await process.wait()


def environment(job: Tracked) -> dict[str, str]:
    """What a tracker's process sees: the operator's variables, without those of our own parts."""
    mine = {
        name: value for name, value in os.environ.items() if not name.startswith(("STROP_", "RAY_"))
    }
    return {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "TRACKIO_DIR": str(job.home / "trackio"),
        **mine,
    }


def points_of(events: Sequence[Event]) -> Iterator[tuple[int, float, dict[str, float]]]:
    """Step, time and numbers of each event that holds any.

    A step's are `train/<name>`, an evaluation's `holdout/<name>`; histograms stay in the store.
    """
    for event in events:
        data = event.data
        prefix = {"step": "train", "evaluation": "holdout"}.get(str(data.get("kind")))
        if prefix is not None:
            yield int(data["step"]), event.created_at, dict(_numbers(data, prefix))


def _numbers(data: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in data.items():
        if name in _COUNTERS or name.endswith("_histogram"):
            continue
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}/{name}")  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(value, (int, float)):
            yield f"{prefix}/{name}", float(value)


def hidden(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """The text without what a tracker's library may have quoted of the operator's secrets."""
    for name, value in environ.items():
        if _SECRETS.search(name) and len(value) > 3:
            text = text.replace(value, "***")
    return re.sub(r"//[^/@\s]+@", "//***@", text)


def _taken(cursor: Path) -> int:
    """The last event that was taken. A damaged file is started anew: steps may be told again."""
    try:
        return int(json.loads(cursor.read_text())["event"])
    except FileNotFoundError:
        return 0
    except (ValueError, KeyError, TypeError, OSError) as error:
        log.warning("%s is damaged (%s): everything is handed on again", cursor, error)
        return 0
