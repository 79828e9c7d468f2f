"""The learner group is watched and made anew: real Ray Train workers that learn nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.health import Limits
from services.learner_tier import LearnerTier, TrainerLost
from services.replicas import Care
from tests.odd_actor import OddLearner
from tests.ray_cluster import local_ray
from trainer.group import GroupFailed, LearnerGroup, Placement


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with local_ray(cpus=1):
        yield


async def test_a_learner_whose_rank_dies_or_stands_still_is_made_anew_from_its_checkpoint(
    tmp_path: Path,
) -> None:
    told: list[str] = []

    async def tell(message: str) -> None:
        told.append(message)

    def group() -> LearnerGroup:
        return LearnerGroup(OddLearner, "gearbox", Placement(1, 0.5), str(tmp_path / "ray"))

    def limits(seconds: float) -> Care:
        return Care(Limits(progress_s=seconds), 120, tell, tmp_path / "dumps", beat_s=1.0)

    tier = LearnerTier(group, 1, limits(5))
    done = tmp_path / "flag"
    done.touch()
    try:
        await tier.start(None)
        assert await tier.call("learn", 60, str(done)) == 1
        os.kill(await tier.call("pid", 60), signal.SIGKILL)
        with pytest.raises(TrainerLost) as lost:
            await tier.call("learn", 60, str(done))
        await tier.go_back(None, str(lost.value))
        assert await tier.call("learn", 60, str(done)) == 1, "what was not saved is lost"

        with pytest.raises(TrainerLost, match="rank 0: it made no progress for") as lost:
            await tier.call("learn", 60, str(tmp_path / "hang"))
        (dump,) = os.listdir(tmp_path / "dumps")
        assert f"its stacks are in {tmp_path / 'dumps' / dump}" in str(lost.value)
        await tier.go_back(None, str(lost.value))

        with pytest.raises(GroupFailed, match="rank 0: ValueError: gearbox is broken"):
            await tier.call("refuse", 60)
    finally:
        await asyncio.wait_for(tier.stop(20), 60)
    assert [line.split(":")[0] for line in told[::2]] == ["trainer is lost", "trainer is lost"]
    assert told[0] == (
        "trainer is lost: 'learn': rank 0: its process died; going back to the start "
        "(restart 1 of at most 5)"
    )
    assert all("trainer is replaced after" in line for line in told[1::2])
