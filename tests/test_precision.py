"""`model.dtype: auto` is bfloat16 where the hardware computes it, and one type for all tiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services import precision
from services.config import JobSpec
from services.footprint import number_bytes
from services.precision import cpu_has_bfloat16, decided, on_gpus

ON_GPUS: dict[str, Any] = {name: {"gpus": 1} for name in ("rollout", "trainer", "teacher")}


def job(dtype: str = "auto", tiers: dict[str, Any] | None = None) -> JobSpec:
    data = {"model": {"path": "m", "dtype": dtype}, "tasks": {"train": "t"}, "tiers": tiers or {}}
    return JobSpec.model_validate(data)


@pytest.mark.parametrize(
    ("line", "has"),
    [
        ("flags\t\t: fpu sse2 avx avx2 fma avx512f avx512bw avx512vl avx512dq", True),
        ("flags\t\t: fpu sse2 avx avx2 fma avx512f", False),
        ("flags\t\t: fpu sse2 avx avx2 fma", False),
        ("Features\t: fp asimd sve bf16", True),
        ("Features\t: fp asimd", False),
        ("model name\t: a CPU with bf16 in its name", False),
    ],
)
def test_a_cpu_tells_by_its_flags_whether_it_computes_bfloat16(
    tmp_path: Path, line: str, has: bool
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\n{line}\n\nprocessor\t: 1\n{line}\n")
    assert cpu_has_bfloat16(cpuinfo) is has


@pytest.mark.parametrize(
    ("spec", "cpu", "dtype"),
    [
        (job(), True, "bfloat16"),
        (job(), False, "float32"),
        (job(tiers=ON_GPUS), False, "bfloat16"),
        (job(tiers={"trainer": {"gpus": 1}}), False, "float32"),
        (job("bfloat16"), False, "bfloat16"),
        (job("float32", ON_GPUS), True, "float32"),
    ],
)
def test_auto_follows_the_hardware_and_a_named_type_stands(
    monkeypatch: pytest.MonkeyPatch, spec: JobSpec, cpu: bool, dtype: str
) -> None:
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: cpu)
    assert decided(spec).model.dtype == dtype
    assert decided(spec).model_copy(update={"model": spec.model}) == spec


def test_a_dry_run_counts_the_most_that_auto_can_take() -> None:
    assert number_bytes(job()) == 4
    assert number_bytes(job(tiers=ON_GPUS)) == 2
    assert not on_gpus(job())
