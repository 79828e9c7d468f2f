"""Launching a job: its controller, in an actor beside the dispatcher that launched it.

What the controller needs (torch, the models' code) is loaded in the actor's own process: a
dispatcher stays small, and one that takes a dead one's job over is soon ready to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from services.pipeline import abandon

BEAT_SECONDS = 5.0


class ControllerDied(RuntimeError):
    """A controller is gone, and said nothing of an outcome."""


class JobController:
    """The actor of a `services.controller.Controller`."""

    def __init__(self, job_id: str, token: int, store_file: str, folder: str) -> None:
        from services.controller import Controller

        self._controller = Controller(job_id, token, store_file, folder)

    async def run(self) -> str:
        """Run the job; the status it ended with."""
        return await self._controller.run()

    async def progress(self) -> int:
        """A counter that moves while the job gets on."""
        return await self._controller.progress()

    async def interrupt(self) -> None:
        """Stop, because the claim is over."""
        await self._controller.interrupt()

    async def life(self) -> None:
        """Never answers: who waits for it hears of the controller's death."""
        await asyncio.Event().wait()


async def launch(
    job_id: str, token: int, store_file: str, folder: str, beat: Callable[[int], None]
) -> None:
    """Start a job's controller on the cluster this process is connected to, and wait for its end.

    `beat` is told the controller's progress whenever it answers. Cancelling this interrupts
    the job and waits until its tiers are gone. Raises ControllerDied.
    """
    controller: Any = (
        ray.remote(JobController)
        .options(
            num_cpus=0, name=f"{job_id}-{token}", max_restarts=0, scheduling_strategy=_beside_us()
        )
        .remote(job_id, token, store_file, folder)
    )
    run = asyncio.ensure_future(_wait(controller.run.remote()))
    beating = asyncio.ensure_future(_beat(controller, beat))
    try:
        await asyncio.shield(run)
    except RayActorError as error:
        if error.actor_init_failed:
            raise
        raise ControllerDied("its controller's process died") from error
    except asyncio.CancelledError:
        await controller.interrupt.remote()
        await asyncio.wait({run}, timeout=60)
        raise
    finally:
        await abandon([beating])
        ray.kill(controller)


def _beside_us() -> NodeAffinitySchedulingStrategy:
    """The node of the dispatcher: it has the data folder, and no autoscaler takes it away."""
    node_id = ray.get_runtime_context().get_node_id()
    return NodeAffinitySchedulingStrategy(node_id, soft=False)


async def _beat(controller: Any, beat: Callable[[int], None]) -> None:
    """Pass the controller's progress on as long as it answers."""
    while True:
        beat(await controller.progress.remote())
        await asyncio.sleep(BEAT_SECONDS)


async def _wait(reference: Any) -> str:
    return await reference
