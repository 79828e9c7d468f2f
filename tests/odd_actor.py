"""An actor and a learner that do no work, and misbehave as they are told."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import ray
from ray.util.placement_group import placement_group

from services.replicas import ActorLost, Beat
from services.weights import Manifest, StaleWeights


class OddActor:
    """Counts its calls, and misbehaves as it is told."""

    def __init__(self, number: int) -> None:
        self._number, self._calls, self._version = number, 0, -1

    async def start(self) -> None: ...

    async def load_weights(self, manifest: Manifest, buckets: Any) -> dict[str, int]:
        if manifest.version == 99:
            raise StaleWeights("the canary sings another song")
        self._version = manifest.version
        return {"version": manifest.version}

    async def beat(self) -> Beat:
        return Beat(self._calls, os.getpid(), ray.get_runtime_context().get_node_id())

    async def work(self, what: str, flag: str) -> tuple[str, tuple[int, int, int]]:
        if first_time(flag):
            if what == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if what == "hang":
                await asyncio.sleep(600)
            if what == "lose":
                raise ActorLost("its engine is gone")
        if what == "break":
            raise ValueError("cannot be done")
        self._calls += 1
        return "done", (self._number, self._version, os.getpid())

    async def pid(self) -> int:
        return os.getpid()

    async def stop(self) -> None: ...


def first_time(flag: str) -> bool:
    if Path(flag).exists():
        return False
    Path(flag).touch()
    return True


class OddLearner:
    """One rank of a learner group."""

    def __init__(self, config: str) -> None:
        self._config, self._done = config, 0

    def ready(self) -> None: ...

    def progress(self) -> int:
        return self._done

    def resume(self, step: int) -> None:
        self._done = step

    def learn(self, flag: str) -> int:
        """Stands still for the first who calls with this flag."""
        if first_time(flag):
            time.sleep(600)
        self._done += 1
        return self._done

    def pid(self) -> int:
        return os.getpid()

    def refuse(self) -> None:
        raise ValueError(f"{self._config} is broken")

    def close(self) -> None: ...


class OddReserver:
    """Reserves a place, as Ray Train's controller does."""

    def reserve(self) -> None:
        self._group = placement_group([{"CPU": 1}])
        ray.get(self._group.ready(), timeout=60)
