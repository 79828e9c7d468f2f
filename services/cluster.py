"""The dispatcher's way to the Ray cluster: what it has, and controllers launched on it.

Ray is loaded when the first job asks for it, so that a dispatcher without one stays small.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import replace
from types import ModuleType
from typing import Any

from services.errors import ClusterUnavailable
from services.fit import Node
from services.held_job import Beat, Launch
from services.jobs import Job
from services.placement import Group, to_come
from services.private_files import make_private_folder, write_private
from services.queue_order import Cluster
from services.ray_connection import connect
from services.settings import Settings

_LOOK_SECONDS = 20.0
_GROUP_LABEL = "ray.io/node-group"
_MOST_NODES = 64  # of one group: beyond this it may as well have no bound
_log = logging.getLogger(__name__)


class RayCluster:
    """What the nodes of a cluster have and what is free of it."""

    def __init__(self, address: str | None, *, labelled: bool = False) -> None:
        """Connect to `address` when somebody looks; `labelled` as in `Cluster`."""
        self._address = address
        self._labelled = labelled
        self._looking: asyncio.Future[Cluster] | None = None

    async def look(self) -> Cluster:
        """The nodes at this moment. Raises ClusterUnavailable."""
        # A look that hangs is waited for again, so that hanging threads do not pile up.
        looking = self._looking = self._looking or asyncio.ensure_future(
            asyncio.to_thread(_look, self._address)
        )
        await asyncio.wait({looking}, timeout=_LOOK_SECONDS)
        if not looking.done():
            raise ClusterUnavailable(
                f"the Ray cluster does not answer within {_LOOK_SECONDS:.0f} s"
            )
        self._looking = None
        try:
            return replace(looking.result(), labelled=self._labelled)
        except Exception as error:  # Ray has no one kind of error for this
            _log.warning("the Ray cluster cannot be looked at: %s", error)
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise ClusterUnavailable(f"the Ray cluster does not answer: {said[0]}") from error


def _look(address: str | None) -> Cluster:
    connect(address)
    import ray
    from ray._private.state import available_resources_per_node

    from services.reservations import free_leaked

    if freed := free_leaked():
        _log.warning("%d reservation(s) of dead actors were freed", freed)
    nodes: list[dict[str, Any]] = [node for node in ray.nodes() if node["Alive"]]
    free: dict[str, dict[str, float]] = available_resources_per_node()
    more = to_come(_groups(), Counter(node["Labels"].get(_GROUP_LABEL, "") for node in nodes))
    return Cluster(
        total=[*(_node(node, node["Resources"]) for node in nodes), *more],
        free=[*(_node(node, free.get(node["NodeID"], {})) for node in nodes), *more],
    )


def _groups() -> list[Group]:
    """The groups of nodes that the autoscaler told Ray of; none where there is no autoscaler."""
    from ray._private.state import state

    config: Any = state.get_cluster_config()
    return [
        Group(
            name=group.name,
            most=min(group.max_count, _MOST_NODES),
            cpus=group.resources.get("CPU", 0),
            gpus=group.resources.get("GPU", 0),
        )
        for group in (config.node_group_configs if config is not None else ())
        if group.max_count > 0
    ]


def _node(node: dict[str, Any], resources: dict[str, float]) -> Node:
    return Node(resources.get("CPU", 0.0), resources.get("GPU", 0.0), node["Labels"])


def controller_launch(store_url: str, settings: Settings) -> Launch:
    """Launch a job's controller on the Ray cluster of the settings.

    A cluster shows what its actors are given to whoever may look at it, so the store's
    address, which has its password, goes to controllers in a file that only we can read.
    """

    async def launch(job: Job, beat: Beat) -> None:
        make_private_folder(settings.home)
        write_private(settings.store_file, store_url)
        launching = await asyncio.to_thread(_connected, settings.ray_address)
        folder = str(settings.jobs_folder / job.id)
        await launching.launch(job.id, job.token, str(settings.store_file), folder, beat)

    return launch


def _connected(ray_address: str | None) -> ModuleType:
    """`services.launching`, with this process connected to the cluster.

    Called outside of the main thread, where Ray would take over our SIGTERM.
    """
    connect(ray_address)
    from services import launching

    return launching
