"""Actors that are watched and replaced: real Ray actors with a small life of their own."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from services.health import Limits
from services.replicas import Care, Replicas, TierFailed
from services.weights import Manifest, Publication, StaleWeights
from tests.odd_actor import OddActor
from tests.ray_cluster import local_ray


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with local_ray(cpus=1):
        yield


def publication(version: int) -> Publication:
    return Publication(Manifest(version, (), (), (), ()), ())


@asynccontextmanager
async def tier(
    folder: Path, count: int = 1, make: Callable[[int], Any] | None = None, **limits: Any
) -> AsyncIterator[tuple[Replicas, list[str]]]:
    told: list[str] = []

    async def tell(message: str) -> None:
        told.append(message)

    def actor(number: int) -> Any:
        return ray.remote(OddActor).options(num_cpus=0, max_restarts=0).remote(number)

    care = Care(
        Limits(**{"progress_s": 60.0, **limits}), 60, tell, folder, beat_s=0.2, answer_s=5.0
    )
    one = Replicas("rollout", make or actor, count, care, in_flight=4)
    await one.start()
    try:
        yield one, told
    finally:
        await one.stop(10)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.05)


async def test_nothing_is_given_to_an_actor_that_has_proven_no_weights(tmp_path: Path) -> None:
    async with tier(tmp_path) as (one, _):
        early = asyncio.create_task(one.call("work", "well", str(tmp_path / "flag")))
        await asyncio.sleep(0.3)
        assert not early.done()
        assert await one.publish(publication(0)) == [{"version": 0}]
        assert (await early)[1][1] == 0


@pytest.mark.parametrize(
    ("how", "words"), [("die", "its process died"), ("lose", "its engine is gone")]
)
async def test_a_lost_actor_is_replaced_and_its_request_is_done_under_the_newest_weights(
    tmp_path: Path, how: str, words: str
) -> None:
    async with tier(tmp_path) as (one, told):
        await one.publish(publication(7))
        pid = await one.actors[0].pid.remote()
        _, (number, version, other) = await one.call("work", how, str(tmp_path / "flag"))
        assert (number, version) == (0, 7)
        assert other != pid
        await until(lambda: len(told) == 2)
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert told[0] == f"rollout 0 is lost: {words}; it is replaced (restart 1 of at most 5)"
    assert "rollout 0 is replaced after" in told[1]
    assert told[1].endswith("and runs policy version 7")


async def test_what_a_lost_actor_had_in_hand_goes_to_another_that_serves(tmp_path: Path) -> None:
    async with tier(tmp_path, count=2) as (one, _):
        await one.publish(publication(0))
        flag = str(tmp_path / "flag")
        asked = [one.call("work", "die" if n == 0 else "well", flag + str(n)) for n in range(6)]
        answers = await asyncio.gather(*asked)
        assert {version for _, (_, version, _) in answers} == {0}


async def test_an_actor_that_stands_still_is_dumped_and_replaced(tmp_path: Path) -> None:
    async with tier(tmp_path, progress_s=1.5) as (one, told):
        await one.publish(publication(0))
        await one.call("work", "hang", str(tmp_path / "flag"))
    assert "it made no progress for" in told[0]
    (dump,) = [name for name in os.listdir(tmp_path) if name.startswith("rollout-0-")]
    assert f"its stacks are in {tmp_path / dump}" in told[0]
    text = (tmp_path / dump).read_text()
    assert "Process" in text or "no stacks" in text


async def test_an_actor_that_dies_with_nothing_in_hand_is_noticed(tmp_path: Path) -> None:
    async with tier(tmp_path) as (one, told):
        await one.publish(publication(3))
        os.kill(await one.actors[0].pid.remote(), signal.SIGKILL)
        await until(lambda: len(told) == 2)
        assert (await one.call("work", "well", str(tmp_path / "flag")))[1][1] == 3


async def test_a_tier_whose_actors_die_again_and_again_fails_with_the_reason(
    tmp_path: Path,
) -> None:
    async with tier(tmp_path) as (one, told):
        await one.publish(publication(0))
        for _ in range(5):
            one.restarts.take()
        with pytest.raises(
            TierFailed, match=r"rollout 0 was lost after 5 restarts .* process died"
        ):
            await one.call("work", "die", str(tmp_path / "flag"))
        one.restarts.reached(1)
    assert told == []


async def test_a_request_that_fails_everywhere_is_given_up_with_its_reason(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    async with tier(tmp_path, count=2) as (one, _):
        await one.publish(publication(0))
        with pytest.raises(TierFailed, match="work failed 4 times, the last time: cannot be done"):
            await one.call("work", "break", str(flag))
        await until(lambda: len(one.actors) == 2)
        assert (await one.call("work", "well", str(flag)))[0] is not None


async def test_weights_that_are_not_proven_stop_the_job(tmp_path: Path) -> None:
    async with tier(tmp_path) as (one, _):
        with pytest.raises(StaleWeights, match="canary sings another song"):
            await one.publish(publication(99))
