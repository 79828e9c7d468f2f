"""What the dispatcher sees of a real Ray: nodes in all, and what is free."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import ray

from services.cluster import RayCluster
from services.fit import Need, place
from tests.ray_cluster import local_ray


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with local_ray(3):
        yield


async def test_what_an_actor_takes_is_not_free_and_comes_back() -> None:
    nodes = RayCluster(None)
    need = Need("trainer", 1, 2.0, 0.0, {})
    seen = await nodes.look()
    assert [node.cpus for node in seen.total] == [3.0]
    assert not isinstance(place([need], seen.free), str)

    class Taking:
        def here(self) -> bool:
            return True

    actor: Any = ray.remote(Taking).options(num_cpus=2).remote()
    assert await actor.here.remote()
    while not isinstance(said := place([need], (await nodes.look()).free), str):
        pass  # Ray tells its nodes' resources from time to time
    assert said == "needs 2 CPUs for `trainer`; 1 is free"
    ray.kill(actor)
    while isinstance(place([need], (await nodes.look()).free), str):
        pass
