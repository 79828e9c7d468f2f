"""What a dry run answers: the resolved job, its tokens, memory and time, tasks as models see them.

Numbers that nobody can know are null, and the text beside them says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import psutil
from pydantic import BaseModel, Field

from services.api.admission import Admitted
from services.api.models import named
from services.config import JobSpec
from services.jobs import Job
from services.settings import Settings
from services.store import Store

_LOOKED_BACK = 100
"""Jobs of the tenant among which one like this is looked for."""


class TierMemory(BaseModel):
    """What one tier needs. Formulas: services/footprint.py."""

    tier: str = Field(description="`rollout`, `teacher`, `trainer` or `verifier`.")
    replicas: int = Field(description="Actors.")
    device: Literal["cpu", "gpu"] = Field(description="Where `bytes` lie.")
    gpus: float = Field(description="GPUs that each actor asks for.")
    bytes: dict[str, int] = Field(
        description="Of one actor, by purpose: weights, optimizer, kv_cache, activations (at their "
        "most), processes."
    )
    total_bytes: int = Field(description="Of one actor.")


class Memory(BaseModel):
    """What all tiers need, against what there is."""

    tiers: list[TierMemory] = Field(description="Tier by tier.")
    parameters: int = Field(description="Weights of the policy.")
    parameters_basis: str = Field(description="Where that number is from.")
    kv_cache_bytes_of_longest_sequence: int = Field(description="Of `model.max_length` tokens.")
    sequences_at_once: int = Field(description="Completions that one engine samples at a time.")
    host_needed_bytes: int = Field(description="Of all actors that compute on CPUs.")
    host_bytes: int | None = Field(description="Memory of this machine, if the tiers run on it.")
    host_fits: bool | None = Field(description="Whether that is enough; null where not known.")
    gpu_basis: str = Field(description="What is known of the memory of GPUs.")


class Time(BaseModel):
    """How long it may take."""

    seconds: float | None = Field(description="Of the whole run; null where nothing is known.")
    step_seconds: float | None = Field(description="Of one step.")
    basis: str = Field(description="What the estimate rests on, or why there is none.")


class DryRun(BaseModel):
    """A job that could be queued as it is."""

    object: Literal["fine_tuning.job.dry_run"] = Field(
        default="fine_tuning.job.dry_run", description="Kind of object."
    )
    spec: dict[str, Any] = Field(description="The resolved job spec.")
    notes: list[str] = Field(
        description="What the request meant in the spec's terms, and what was left out."
    )
    tasks: dict[str, int] = Field(description="Tasks that are used, by file.")
    tokens: dict[str, Any] = Field(
        description="`prompt`: min, mean, max and total; completion tokens at their most."
    )
    memory: Memory = Field(description="An estimate.")
    time: Time = Field(description="An estimate.")
    preview: list[dict[str, Any]] = Field(
        description="Tasks as `policy` and `teacher` read them: text, ids, and spans that say "
        "whose tokens they are: a role's, or `privileged`."
    )


async def report(
    found: Admitted, looked: Mapping[str, Any], store: Store, tenant: str, settings: Settings
) -> DryRun:
    """The answer, of what was admitted and what the helper saw."""
    job = found.spec
    return DryRun(
        spec=named(job.model_dump(mode="json"), found.asked["files"]),
        notes=[*found.asked["notes"], *looked["notes"]],
        tasks=looked["tasks"],
        tokens=looked["tokens"],
        memory=memory_of(looked, settings),
        time=estimated(job, (await store.list_jobs(tenant, None, _LOOKED_BACK))[0]),
        preview=looked["preview"],
    )


def memory_of(looked: Mapping[str, Any], settings: Settings) -> Memory:
    """The footprints against this machine, when the tiers run on it."""
    tiers = [
        TierMemory(
            tier=one["tier"],
            replicas=one["replicas"],
            device=one["device"],
            gpus=one["gpus"],
            bytes=one["parts"],
            total_bytes=one["total"],
        )
        for one in looked["memory"]
    ]
    needed = sum(tier.total_bytes * tier.replicas for tier in tiers if tier.device == "cpu")
    has = psutil.virtual_memory().total if settings.ray_address is None else None
    on_gpu = [tier for tier in tiers if tier.device == "gpu"]
    return Memory(
        tiers=tiers,
        parameters=looked["model"]["parameters"],
        parameters_basis="the headers of its safetensors"
        if looked["model"]["weights_known"]
        else "its dimensions: no file here names its weights",
        kv_cache_bytes_of_longest_sequence=looked["kv_cache"]["bytes_of_longest_sequence"],
        sequences_at_once=looked["kv_cache"]["sequences_at_once"],
        host_needed_bytes=needed,
        host_bytes=has,
        host_fits=None if has is None else needed <= has,
        gpu_basis="no tier asks for a GPU"
        if not on_gpu
        else "the API does not know the cluster's devices: compare total_bytes with theirs",
    )


def estimated(job: JobSpec, jobs: list[Job]) -> Time:
    """Time by the newest job that is like this one, scaled to its tokens."""
    plain = job.model_dump(mode="json")
    for other in jobs:
        pace = _pace(other)
        if pace is not None and _alike(other.spec, plain):
            per_token, length = pace
            tokens = job.sampling.group_size * job.sampling.groups_per_step
            step = per_token * tokens * min(length, job.sampling.max_tokens)
            basis = (
                f"the newest step of job {other.id}, with the same model, algorithm and tiers: "
                f"{per_token * 1e3:.3g} ms a completion token, {length:.0f} tokens a completion; "
                "without start, evaluations and checkpoints"
            )
            return Time(seconds=step * job.steps, step_seconds=step, basis=basis)
    return Time(
        seconds=None,
        step_seconds=None,
        basis="no job with this model, algorithm and tiers has finished a step here; `strop probe` "
        "measures one",
    )


def _pace(job: Job) -> tuple[float, float] | None:
    """Seconds a completion token, and tokens a completion, of a job's newest step."""
    step = job.progress or {}
    try:
        seconds = sum(step["phase_seconds"].values())
        tokens, length = float(step["completion_tokens"]), float(step["completion_length_mean"])
    except (KeyError, TypeError, AttributeError):
        return None
    return (seconds / tokens, length) if tokens > 0 else None


def _alike(other: Mapping[str, Any], job: Mapping[str, Any]) -> bool:
    same = all(other.get(part) == job[part] for part in ("model", "tiers", "engine"))
    return same and other["algorithm"]["kind"] == job["algorithm"]["kind"]
