"""Threads on few cores: the environment that keeps the tiers of one box from fighting.

Every actor's OpenMP threads follow from its Ray CPU share, and a thread that waits sleeps
instead of spinning: two processes that spin on the same cores slow each other tenfold.
"""

from __future__ import annotations

import sys
from pathlib import Path

from services.config import JobSpec
from services.job_sections import ModelTierSpec


def intel_openmp() -> Path | None:
    """The Intel OpenMP runtime that the `cpu` extra installs, or None where it is absent."""
    library = Path(sys.prefix) / "lib" / "libiomp5.so"
    return library if library.exists() else None


def compute_env(threads: int) -> dict[str, str]:
    """Environment of a process that computes with `threads` threads on a CPU.

    It has to be set before the process starts: an OpenMP runtime reads it once.
    """
    env = {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "KMP_BLOCKTIME": "1",  # milliseconds a thread spins after a parallel region
        "KMP_TPAUSE": "0",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if library := intel_openmp():
        env["LD_PRELOAD"] = str(library)
    return env


def threads_of(job: JobSpec, tier: ModelTierSpec) -> int:
    """Threads of one actor of a tier, from the Ray CPUs of the job.

    A strictly on-policy job's phases take turns: while one tier computes the others sleep, so
    the computing tiers without a placement of their own lend each other their CPUs. With
    staleness phases overlap, and each tier keeps to its own.
    """
    computing = [job.tiers.rollout, job.tiers.trainer]
    if job.has_teacher:
        computing.append(job.tiers.teacher)
    pooled = [other for other in computing if not other.labels and not other.gpus]
    if job.sampling.max_staleness or tier not in pooled:
        return max(1, round(tier.cpus))
    return max(1, round(sum(other.cpus * other.replicas for other in pooled) / tier.replicas))
