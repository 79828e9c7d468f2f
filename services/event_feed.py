"""Events as they happen, for any number of followers over one connection to the store.

What has happened already a follower reads from the store; what happens then one reader
fetches for all of them, whatever job they follow. The events of a job are numbered without a
gap, so nobody needs a queue: a follower that the newest events do not continue, because its
client is slow, reads the store again. A reader that loses the store ends every stream, and
the clients come back with `Last-Event-ID`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Generator, Iterable
from contextlib import contextmanager

from services.errors import RateLimited, StoreUnavailable
from services.jobs import Event
from services.store.events import EventLog

MAX_FOLLOWERS = 2000
"""Streams that one process serves at a time."""
_KEPT_EVENTS = 64
# How long the reader waits at most, and with it a job's first follower for the first new event.
_BLOCK_SECONDS = 0.25

_log = logging.getLogger(__name__)


class EventFeed:
    """The events of all jobs that somebody follows; `close` it."""

    def __init__(self, log: EventLog, max_followers: int = MAX_FOLLOWERS) -> None:
        """Read them from `log`."""
        self._log = log
        self._max_followers = max_followers
        self._watched: dict[str, _Watched] = {}
        self._reader: asyncio.Task[None] | None = None

    @property
    def followers(self) -> int:
        """How many follow at this moment."""
        return sum(watched.followers for watched in self._watched.values())

    async def follow(
        self, job_id: str, after: int | None = None, *, tenant: str | None = None
    ) -> AsyncIterator[Event]:
        """Every event from behind `after`, those to come included; ends after the terminal one.

        Raises NotFound, StoreUnavailable, and RateLimited when too many follow.
        """
        last = after or 0
        with self._watching(job_id) as watched:
            # Asked behind the watch: a job that had ended by then has all its events stored.
            finished = await self._log.has_ended(job_id, tenant)
            watched.start(await self._log.newest(job_id))
            while True:
                page = watched.behind(last)
                if page is None:
                    page = await self._log.events(job_id, last)
                for event in page:
                    last = event.id
                    yield event
                    if event.terminal:
                        return
                if not page:
                    if finished:
                        return
                    await watched.change()

    async def close(self) -> None:
        """Stop reading; every follower's stream ends."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait({self._reader})

    def check_room(self) -> None:
        """Raise RateLimited unless one more can follow."""
        if self.followers >= self._max_followers:
            raise RateLimited(
                f"{self._max_followers} streams are followed on this replica already; try again "
                "in a moment, or read the events as a list",
                retry_after=5,
            )

    @contextmanager
    def _watching(self, job_id: str) -> Generator[_Watched]:
        self.check_room()
        watched = self._watched.setdefault(job_id, _Watched())
        watched.followers += 1
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read())
        try:
            yield watched
        finally:
            watched.followers -= 1
            if watched.followers == 0 and self._watched.get(job_id) is watched:
                del self._watched[job_id]

    async def _read(self) -> None:
        """Fetch what is new, until nobody follows any more."""
        try:
            while self._watched:
                newest = {
                    job_id: watched.newest
                    for job_id, watched in self._watched.items()
                    if watched.newest is not None
                }
                if not newest:
                    await asyncio.sleep(_BLOCK_SECONDS / 10)
                    continue
                for job_id, events in (await self._log.newer(newest, _BLOCK_SECONDS)).items():
                    if job_id in self._watched:
                        self._watched[job_id].add(events)
        except asyncio.CancelledError:
            self._end(StoreUnavailable("the service is being stopped"))
            raise
        except StoreUnavailable as error:
            self._end(error)
        except Exception:
            _log.exception("the feed of events failed")
            self._end(StoreUnavailable("the feed of events failed; the service's log says why"))

    def _end(self, error: StoreUnavailable) -> None:
        for watched in self._watched.values():
            watched.end(error)
        # Whoever follows from now on starts afresh.
        self._watched, self._reader = {}, None


class _Watched:
    """The newest events of one job, as far as they are known."""

    def __init__(self) -> None:
        self.followers = 0
        self.newest: int | None = None
        """Number of the newest event; None until the store was asked."""
        self._kept: deque[Event] = deque(maxlen=_KEPT_EVENTS)
        self._changed = asyncio.Event()
        self._error: StoreUnavailable | None = None

    def start(self, newest: int) -> None:
        """Everything up to this number is stored."""
        if self.newest is None:
            self.newest = newest

    def add(self, events: Iterable[Event]) -> None:
        """What happened next."""
        for event in events:
            self._kept.append(event)
            self.newest = event.id
        self._wake()

    def end(self, error: StoreUnavailable) -> None:
        """Nothing more will be known."""
        self._error = error
        self._wake()

    def behind(self, last: int) -> list[Event] | None:
        """The events behind `last`; None when the store must be asked for them."""
        if self._error is not None:
            raise self._error
        if self.newest is None or last >= self.newest:
            return []
        if not self._kept or self._kept[0].id > last + 1:
            return None
        return [event for event in self._kept if event.id > last]

    async def change(self) -> None:
        """Wait until something is new, or nothing will be: as long as nothing happens."""
        await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
