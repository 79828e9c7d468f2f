"""What a job will take of memory, tier by tier: an estimate from shapes, before anything runs.

P parameters, b bytes of a number in `model.dtype` (2 or 4), h hidden, i intermediate, V
vocabulary, L `model.max_length`, T tokens of one packed pass. Bytes of one actor:

| tier     | weights              | optimizer            | kv_cache                | activations |
|----------|----------------------|----------------------|-------------------------|-------------|
| rollout  | b P                  |                      | its setting on a CPU;   | 8 V for each of `engine.max_sequences` |
|          |                      |                      | of all that run, on a GPU |           |
| teacher  | b P, EMA: + 4 P      |                      |                         | one layer, and a chunk of logits |
| trainer  | b P, bfloat16: + 4 P; | 12 P: gradients and |                         | every layer, and a chunk of logits |
|          | on a CPU + b P: the  | two moments, float32 |                         |             |
|          | first weights, which |                      |                         |             |
|          | a GPU's host has     |                      |                         |             |

A layer keeps T b (12 h + 4 i + 4 kv heads times their width) for its backward pass and, on a
CPU, the attention of sequences up to 512 tokens: T min(L, 512) heads times (b + 1): measured, a bound. A chunk of
logits is 64 MiB, kept in three buffers. Every process has PROCESS bytes of its own beside.
A GPU's engine takes `engine.gpu_memory_utilization` of its device whatever it needs.

Trainer ranks hold everything each; nothing is sharded. What the allocator loses is not in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from services.config import JobSpec
from services.job_sections import ModelTierSpec
from services.precision import on_gpus
from trainer.algorithm_spec import Ema
from trainer.model_shape import ModelShape

Tier = Literal["rollout", "teacher", "trainer", "verifier"]

GIB = 1 << 30
PROCESS = 768 * 1024 * 1024
"""Bytes of a process that has loaded Python, torch and Ray."""
JUDGE = 128 * 1024 * 1024
"""Bytes of one verifier worker at rest."""
LOGITS_CHUNK = 64 * 1024 * 1024
SHORT = 512
"""Longest sequence whose attention a CPU keeps whole."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one actor of a tier needs, in bytes by purpose, and how many there are.

    `asks_bytes` is what the tier's settings set aside where they do so; `fits` compares.
    """

    tier: Tier
    replicas: int
    device: Literal["cpu", "gpu"]
    gpus: float
    parts: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def total(self) -> int:
        """Bytes of one actor."""
        return sum(self.parts.values())


def footprints(
    job: JobSpec, shape: ModelShape, teacher: ModelShape | None = None
) -> list[Footprint]:
    """What each tier of the job needs. `teacher` is the shape of a teacher of its own."""
    return list(_footprints(job, shape, teacher or shape))


def kv_bytes(job: JobSpec, shape: ModelShape, tokens: int) -> int:
    """Bytes of the keys and values of so many tokens."""
    return tokens * shape.kv_values * number_bytes(job)


def sequences_at_once(job: JobSpec) -> int:
    """Completions that one rollout engine samples at a time, at most."""
    step = job.sampling.group_size * job.sampling.groups_per_step
    return min(job.engine.max_sequences, -(-step // job.tiers.rollout.replicas))


def number_bytes(job: JobSpec) -> int:
    """Bytes of one number of the forward pass; the most they can be where `auto` decides."""
    if job.model.dtype == "auto":
        return 2 if on_gpus(job) else 4
    return 4 if job.model.dtype == "float32" else 2


def _footprints(job: JobSpec, shape: ModelShape, teacher: ModelShape) -> Iterator[Footprint]:
    b, tiers = number_bytes(job), job.tiers
    at_once = sequences_at_once(job)
    if tiers.rollout.gpus:
        cache = kv_bytes(job, shape, at_once * job.model.max_length)
    else:
        cache = int(job.engine.kv_cache_gib * GIB)
    yield _model_tier(
        "rollout",
        tiers.rollout,
        weights=b * shape.parameters,
        kv_cache=cache,
        activations=8 * shape.vocabulary * at_once,
    )
    if job.has_teacher:
        average = isinstance(getattr(job.algorithm, "teacher", None), Ema)
        yield _model_tier(
            "teacher",
            tiers.teacher,
            weights=(b + 4 * average) * teacher.parameters,
            activations=_layer(job, teacher, tiers.teacher) + _logits(b),
        )
    masters = 0 if b == 4 else 4
    first = 0 if tiers.trainer.gpus else b  # beside a GPU they lie in the host's memory
    yield _model_tier(
        "trainer",
        tiers.trainer,
        weights=(b + first + masters) * shape.parameters,
        optimizer=12 * shape.parameters,
        activations=shape.layers * _layer(job, shape, tiers.trainer) + _logits(b),
    )
    verifier = tiers.verifier
    parts = {"processes": PROCESS + max(1, int(verifier.cpus)) * JUDGE}
    yield Footprint("verifier", verifier.max_replicas or verifier.replicas, "cpu", 0.0, parts)


def _model_tier(name: Tier, tier: ModelTierSpec, **parts: int) -> Footprint:
    device = "gpu" if tier.gpus else "cpu"
    if device == "cpu":
        parts["processes"] = PROCESS  # beside a GPU it lies in the host's memory
    return Footprint(name, tier.replicas, device, tier.gpus, parts)


def _layer(job: JobSpec, shape: ModelShape, tier: ModelTierSpec) -> int:
    """What one layer keeps of a packed pass."""
    b = number_bytes(job)
    tokens = max(job.model.max_length, job.optimizer.microbatch_tokens)
    kept = 12 * shape.hidden + 4 * shape.intermediate + 4 * shape.kv_heads * shape.head_dim
    length = 0 if tier.gpus else min(job.model.max_length, SHORT)
    return tokens * (b * kept + shape.heads * length * (b + 1))


def _logits(b: int) -> int:
    """Three buffers of a chunk: raw, widened, and their exponentials."""
    return LOGITS_CHUNK * (b + 4 + 4) // 4
