"""Jobs that were recorded elsewhere, put back as they were: with their own ids and times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.errors import Conflict
from services.jobs import TERMINAL, Checkpoint, Event, Job
from services.redis_link import RedisLink
from services.store.part import dump, events_key, job_key, key


async def restore(
    link: RedisLink, job: Job, events: Sequence[Event], checkpoints: Sequence[Checkpoint]
) -> None:
    """Put a job that has ended into the store, with its events and checkpoints.

    Whole or not at all; nobody is told of its end again. Raises Conflict when it has not ended,
    or when the store has a job of this id.
    """
    if job.status not in TERMINAL:
        raise Conflict(f"job {job.id} is {job.status}: only a job that has ended can be put back")
    if await link.ask("EXISTS", job_key(job.id)):
        raise Conflict(f"there is a job {job.id} already")
    sequence = int(await link.ask("INCR", key("seq")))
    fields = {name: str(value) for name, value in _fields(job, sequence).items() if value != ""}
    commands: list[Sequence[str | int]] = [
        ["HSET", job_key(job.id), *(text for pair in fields.items() for text in pair)],
        ["ZADD", key("jobs"), sequence, job.id],
        ["ZADD", key(f"jobs:{job.tenant}"), sequence, job.id],
        ["HINCRBY", key("counts"), job.status, 1],
        ["HINCRBY", key(f"counts:{job.tenant}"), job.status, 1],
    ]
    for event in events:
        told = {
            "at": str(event.created_at),
            "level": event.level,
            "message": event.message,
            "type": event.type,
            "data": dump(dict(event.data)),
        }
        pairs = [text for pair in told.items() for text in pair]
        commands.append(["XADD", events_key(job.id), f"{event.id}-0", *pairs])
    for one in checkpoints:
        entry = {
            "step": str(one.step),
            "path": one.path,
            "metrics": dump(dict(one.metrics)),
            "created_at": str(one.created_at),
        }
        commands.append(["ZADD", key(f"checkpoints:{job.id}"), one.step, dump(entry)])
    await link.together(commands)


def _fields(job: Job, sequence: int) -> Mapping[str, object]:
    def data(value: object) -> str:
        return "" if value is None else dump(value)

    def optional(value: object) -> object:
        return "" if value is None else value

    return {
        "id": job.id,
        "tenant": job.tenant,
        "status": job.status,
        "created_at": job.created_at,
        "started_at": optional(job.started_at),
        "finished_at": optional(job.finished_at),
        "sequence": sequence,
        "revision": job.revision,
        "spec": dump(dict(job.spec)),
        "metadata": dump(dict(job.metadata)),
        "asked": data(job.asked),
        "error": data(job.error),
        "result": data(job.result),
        "progress": data(job.progress),
        "rewards": dump({"every": 1, "points": list(job.rewards)}) if job.rewards else "",
        "priority": job.priority,
        "trained_tokens": job.trained_tokens,
        "runtime_s": job.runtime_s,
        "max_runtime_s": optional(job.max_runtime_s),
        "max_tokens": optional(job.max_tokens),
    }
