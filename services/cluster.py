"""The dispatcher's way to the Ray cluster: controllers are launched on it.

Ray is loaded when the first job asks for it, so that a dispatcher without one stays small.
"""

from __future__ import annotations

import asyncio
from types import ModuleType

from services.held_job import Beat, Launch
from services.jobs import Job
from services.ray_connection import connect
from services.settings import Settings


def controller_launch(store_url: str, settings: Settings) -> Launch:
    """Launch a job's controller on the Ray cluster of the settings."""

    async def launch(job: Job, beat: Beat) -> None:
        controller = await asyncio.to_thread(_connected_controller, settings.ray_address)
        folder = str(settings.jobs_folder / job.id)
        await controller.launch(job.id, job.token, store_url, folder, beat)

    return launch


def _connected_controller(ray_address: str | None) -> ModuleType:
    """`services.controller`, with this process connected to the cluster.

    Called outside of the main thread, where Ray would take over our SIGTERM.
    """
    connect(ray_address)
    from services import controller

    return controller
