"""Followers of events: each sees every event once, and all of them cost one connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import redis

from services.errors import NotFound, RateLimited, StoreUnavailable
from services.event_feed import EventFeed
from services.redis_server import EmbeddedValkey
from services.store import Store

SPEC = {"model": {"path": "a/b"}, "tasks": {"train": "t", "holdout": None}, "seed": 0}


@pytest_asyncio.fixture
async def feed(store: Store) -> AsyncIterator[EventFeed]:
    feed = EventFeed(store)
    yield feed
    await feed.close()


async def ids(feed: EventFeed, job_id: str, after: int | None = None) -> list[int]:
    return [event.id async for event in feed.follow(job_id, after)]


async def all_follow(feed: EventFeed, number: int) -> None:
    """Return when so many follow."""
    async with asyncio.timeout(30):
        while feed.followers < number:
            await asyncio.sleep(0.01)


async def test_a_follower_sees_every_event_once_and_ends_with_the_job(
    store: Store, feed: EventFeed
) -> None:
    job = (await store.create_job(SPEC)).id
    early, late = asyncio.create_task(ids(feed, job)), asyncio.create_task(ids(feed, job, 3))
    await all_follow(feed, 2)
    for n in range(100):
        await store.append_event(job, message=str(n))
    joined = asyncio.create_task(ids(feed, job))
    for n in range(150):
        await store.append_event(job, message=str(n))
    await store.request_cancel(job)
    async with asyncio.timeout(30):
        assert await early == await joined == list(range(1, 253))
        assert await late == list(range(4, 253))
        assert await ids(feed, job) == list(range(1, 253))
        assert await ids(feed, job, 250) == [251, 252]
        assert await ids(feed, job, 252) == []
        assert await ids(feed, job, 9999) == []
    assert feed.followers == 0


async def test_a_slow_follower_misses_nothing_and_holds_nobody_up(
    store: Store, feed: EventFeed
) -> None:
    job = (await store.create_job(SPEC)).id
    slow = feed.follow(job)
    first = await anext(slow)
    fast = asyncio.create_task(ids(feed, job))
    await all_follow(feed, 2)
    for n in range(200):  # more than the feed keeps
        await store.append_event(job, message=str(n))
    await store.request_cancel(job)
    assert await asyncio.wait_for(fast, 30) == list(range(1, 203))
    assert [first.id, *[event.id async for event in slow]] == list(range(1, 203))


async def test_two_hundred_followers_of_twenty_jobs_wait_on_one_connection(
    store: Store, feed: EventFeed, store_url: str
) -> None:
    jobs = [(await store.create_job(SPEC)).id for _ in range(20)]
    followers = [asyncio.create_task(ids(feed, job, 1)) for job in jobs for _ in range(10)]
    await all_follow(feed, 200)
    with redis.Redis.from_url(store_url, decode_responses=True) as client:
        async with asyncio.timeout(30):
            while True:
                blocked = int(client.info("clients")["blocked_clients"])  # type: ignore[index]
                if blocked == 1:
                    break
                assert blocked == 0
                await asyncio.sleep(0.001)
    for job in jobs:
        await store.request_cancel(job)
    assert await asyncio.wait_for(asyncio.gather(*followers), 30) == [[2]] * 200


async def test_a_follower_can_be_cancelled_at_every_moment(store: Store, feed: EventFeed) -> None:
    job = (await store.create_job(SPEC)).id
    for turns in range(60):
        waiting = asyncio.ensure_future(anext(feed.follow(job, after=1)))
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        done, _ = await asyncio.wait({waiting}, timeout=3)
        assert done, f"the cancellation was lost after {turns} turns of the loop"
    assert feed.followers == 0


async def test_what_cannot_be_followed_says_so(store: Store, feed: EventFeed) -> None:
    job = (await store.create_job(SPEC, tenant="a")).id
    for attempt in (feed.follow("ftjob-x"), feed.follow(job, tenant="b")):
        with pytest.raises(NotFound):
            await anext(attempt)
    assert feed.followers == 0
    full = EventFeed(store, max_followers=0)
    with pytest.raises(RateLimited) as caught:
        await anext(full.follow(job))
    assert caught.value.retry_after


async def test_when_the_store_is_lost_streams_end_and_a_new_one_begins_afresh(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("lost")
    with EmbeddedValkey.start(folder) as server:
        store = await Store.open(server.url)
        feed = EventFeed(store)
        job = (await store.create_job(SPEC)).id
        follower = asyncio.create_task(ids(feed, job))
        await all_follow(feed, 1)
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(follower, 60)
    assert feed.followers == 0
    await feed.close()
    await store.close()


async def test_the_reader_rests_while_nobody_follows_and_comes_back(
    store: Store, feed: EventFeed
) -> None:
    for _ in range(3):
        job = (await store.create_job(SPEC)).id
        follower = asyncio.create_task(ids(feed, job))
        await all_follow(feed, 1)
        await store.request_cancel(job)
        assert await asyncio.wait_for(follower, 30) == [1, 2]
        async with asyncio.timeout(30):
            while any("EventFeed._read" in repr(task.get_coro()) for task in asyncio.all_tasks()):
                await asyncio.sleep(0.01)
