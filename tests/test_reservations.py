"""Places that a dead actor had reserved are free again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.util.placement_group import placement_group

from services.reservations import free_leaked
from tests.odd_actor import OddReserver
from tests.ray_cluster import local_ray


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with local_ray(cpus=2):
        yield


def test_what_a_dead_actor_reserved_is_freed_and_nothing_else() -> None:
    ours = placement_group([{"CPU": 1}])
    ray.get(ours.ready(), timeout=60)
    reserver: Any = ray.remote(OddReserver).options(num_cpus=0).remote()
    ray.get(reserver.reserve.remote(), timeout=60)
    assert free_leaked() == 0, "it lives"
    ray.kill(reserver)
    until = time.monotonic() + 60
    while not free_leaked():
        assert time.monotonic() < until
        time.sleep(0.2)
    other = placement_group([{"CPU": 1}])
    ray.get(other.ready(), timeout=60)
    assert free_leaked() == 0, "the living keep what they have"
