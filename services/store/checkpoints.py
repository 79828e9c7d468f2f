"""The checkpoints of jobs: which lie on disk, and where."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from services.errors import NotFound
from services.jobs import Checkpoint
from services.store.lua import CHANGE
from services.store.part import Part, dump, key

# arguments: step entry keep. One that is saved again for a step takes the place of the first.
_ADD = (
    CHANGE
    + """
if ended() then return {'refused', status} end
local kept = P .. 'checkpoints:' .. id
local entry = cjson.decode(arg(2))
entry.created_at = now()
redis.call('ZREMRANGEBYSCORE', kept, arg(1), arg(1))
redis.call('ZADD', kept, arg(1), cjson.encode(entry))
if arg(3) ~= '' then redis.call('ZREMRANGEBYRANK', kept, 0, -1 - tonumber(arg(3))) end
return done(entry.created_at)
"""
)


class Checkpoints(Part):
    """Checkpoints, told and read."""

    async def add_checkpoint(
        self,
        job_id: str,
        token: int | None,
        step: int,
        path: str,
        metrics: Mapping[str, float],
        *,
        keep: int | None = None,
    ) -> Checkpoint:
        """A checkpoint lies at `path`; of older ones the newest `keep` in all are still there.

        Raises NotFound, Fenced, and IllegalTransition when the job has ended.
        """
        # The numbers travel as text: Lua would write an integer of a float.
        entry = dump({"step": str(step), "path": path, "metrics": dump(dict(metrics))})
        (at,) = await self._change(
            _ADD, job_id, "get another checkpoint",
            step, entry, "" if keep is None else keep, token=token,
        )  # fmt: skip
        return Checkpoint(_id(job_id, step), job_id, step, float(at), path, metrics)

    async def checkpoints(
        self, job_id: str, tenant: str | None = None, after: str | None = None, limit: int = 20
    ) -> tuple[list[Checkpoint], bool]:
        """Up to `limit` checkpoints, newest first, from behind `after`; whether more follow.

        Raises NotFound for the job, and for an `after` that is not a checkpoint of it.
        """
        await self.get_job(job_id, tenant)
        newest = "+inf"
        if after is not None:
            prefix, _, step = after.rpartition("-")
            if f"{prefix}-" != _id(job_id, "") or not step.isdecimal():
                raise no_such_checkpoint(job_id, after, param="after")
            newest = f"({step}"
        entries: Sequence[str] = await self._link.ask(
            "ZREVRANGEBYSCORE", key(f"checkpoints:{job_id}"), newest, "-inf",
            "LIMIT", 0, limit + 1,
        )  # fmt: skip
        return [_checkpoint_of(job_id, entry) for entry in entries[:limit]], len(entries) > limit

    async def checkpoint(
        self, job_id: str, checkpoint_id: str, tenant: str | None = None
    ) -> Checkpoint:
        """One checkpoint of a job. Raises NotFound for the job or the checkpoint."""
        await self.get_job(job_id, tenant)
        step = checkpoint_id.removeprefix(_id(job_id, ""))
        entries: Sequence[str] = []
        if step.isdecimal():
            entries = await self._link.ask(
                "ZRANGEBYSCORE", key(f"checkpoints:{job_id}"), step, step
            )
        if not entries:
            raise no_such_checkpoint(job_id, checkpoint_id)
        return _checkpoint_of(job_id, entries[0])


def no_such_checkpoint(job_id: str, checkpoint_id: str, param: str | None = None) -> NotFound:
    """The error for a checkpoint that the job does not have, or not any more."""
    return NotFound(f"job {job_id} has no checkpoint {checkpoint_id!r}", param=param)


def _id(job_id: str, step: int | str) -> str:
    return f"ftckpt-{job_id.removeprefix('ftjob-')}-{step}"


def _checkpoint_of(job_id: str, entry: str) -> Checkpoint:
    fields: dict[str, Any] = json.loads(entry)
    step = int(fields["step"])
    return Checkpoint(
        _id(job_id, step),
        job_id,
        step,
        float(fields["created_at"]),
        fields["path"],
        json.loads(fields["metrics"]),
    )
