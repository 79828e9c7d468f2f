"""Places on the cluster that are reserved by the dead.

Ray frees a placement group with the job that made it. Ray Train makes one for its workers,
and when its controller is killed leaves the freeing to an actor that asks Ray's dashboard,
which a cluster need not have. Until somebody frees them nobody else can have these places.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.core.generated import gcs_pb2
from ray.util.placement_group import PlacementGroup, remove_placement_group


def free_leaked() -> int:
    """Free what actors of this process's Ray job reserved that are dead; how many that was."""
    from ray._private.state import state

    table: Any = getattr(gcs_pb2, "PlacementGroupTableData")  # noqa: B009 - made at import
    # Ray's public table does not say who made a group, nor whether that one lives.
    accessor: Any = state._connect_and_get_accessor()  # pyright: ignore[reportPrivateUsage]
    job = ray.get_runtime_context().get_job_id()
    freed = 0
    for packed in accessor.get_placement_group_table():
        group: Any = table.FromString(packed)
        by_actor = not ray.ActorID(group.creator_actor_id).is_nil()
        leaked = by_actor and group.creator_actor_dead and not group.is_detached
        if leaked and group.creator_job_id.hex() == job and group.state != table.REMOVED:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))
            freed += 1
    return freed
