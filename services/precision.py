"""The number type of a job's forward pass and published weights, where its spec leaves it open.

All tiers use one type, so that what the engine samples from is what the learner computes. It is
bfloat16 where the hardware computes that, and else float32: a CPU without AVX-512 widens every
bfloat16 number by itself, and PyTorch's kernels are then several times slower than in float32.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from services.config import JobSpec

Concrete = Literal["bfloat16", "float32"]
# What oneDNN, PyTorch's library of kernels, asks of a CPU before it takes bfloat16.
_X86 = frozenset({"avx512bw", "avx512vl", "avx512dq"})
_ARM = frozenset({"bf16"})


def on_gpus(job: JobSpec) -> bool:
    """Whether every tier that computes the model does so on GPUs."""
    tiers = [job.tiers.rollout, job.tiers.trainer]
    if job.has_teacher:
        tiers.append(job.tiers.teacher)
    return all(tier.gpus for tier in tiers)


@cache
def cpu_has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this machine's CPU has kernels for bfloat16."""
    for line in cpuinfo.read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            flags = set(value.split())
            return flags >= _X86 or flags >= _ARM
    return False


def dtype_of(job: JobSpec) -> Concrete:
    """The job's number type; `auto` is decided by its tiers and by this machine's CPU."""
    if job.model.dtype != "auto":
        return job.model.dtype
    return "bfloat16" if on_gpus(job) or cpu_has_bfloat16() else "float32"


def decided(job: JobSpec) -> JobSpec:
    """The same job with its number type spelled out."""
    model = job.model.model_copy(update={"dtype": dtype_of(job)})
    return job.model_copy(update={"model": model})
