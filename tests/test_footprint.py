"""Memory before a job runs: weights to the byte, activations as a bound that is not loose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from services.config import JobSpec
from services.footprint import LOGITS_CHUNK, Footprint, footprints, kv_bytes, sequences_at_once
from tests.tiny_model import make_tiny_model
from trainer.learner import Learner
from trainer.model_files import ModelError
from trainer.model_shape import read_shape
from trainer.packing import pack


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


def job(dtype: str = "bfloat16", **more: Any) -> JobSpec:
    spec = {
        "model": {"path": "m", "dtype": dtype, "max_length": 64},
        "tasks": {"train": "t"},
        "sampling": {"max_tokens": 32},
        "optimizer": {"microbatch_tokens": 512},
        **more,
    }
    return JobSpec.model_validate(spec)


def tier(spec: JobSpec, model: Path, name: str) -> Footprint:
    (found,) = [one for one in footprints(spec, read_shape(model)) if one.tier == name]
    return found


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_learner_has_the_bytes_that_were_told(model: Path, dtype: Any) -> None:
    spec = job(dtype)
    parts = tier(spec, model, "trainer").parts
    learner = Learner(
        model, algorithm=spec.algorithm, optimizer=spec.optimizer, dtype=dtype, steps=9
    )
    own = [*learner.policy.module.parameters(), *learner.first.values()]
    masters = list(learner.masters.weights.values())
    held = {t.data_ptr(): t.numel() * t.element_size() for t in (*own, *masters)}
    assert sum(held.values()) == parts["weights"]
    gradients = [weight.grad for weight in masters if weight.grad is not None]
    assert len(gradients) == len(masters)
    moments = 2 * sum(weight.numel() * 4 for weight in masters)
    told = sum(g.numel() * g.element_size() for g in gradients) + moments
    assert told == parts["optimizer"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("count", [8, 2])
def test_activations_are_bounded_and_not_loosely(model: Path, dtype: Any, count: int) -> None:
    length = 512 // count
    spec = job(dtype, model={"path": "m", "dtype": dtype, "max_length": length})
    policy = Learner(
        model, algorithm=spec.algorithm, optimizer=spec.optimizer, dtype=dtype, steps=9
    ).policy
    tokens = np.random.default_rng(0).integers(3, 250, 512).astype(np.int32)
    lengths = np.full(count, length, np.int32)
    (part,) = pack(tokens, lengths, lengths // 4, budget=512)
    kept: dict[int, int] = {}
    alive: list[torch.Tensor] = []

    def keep(saved: torch.Tensor) -> torch.Tensor:
        alive.append(saved)  # or its memory, and its address, could be used again
        kept[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        policy.completion_logprobs(part, 1.0)
    for parameter in policy.module.parameters():
        kept.pop(parameter.untyped_storage().data_ptr(), None)
    b = 2 if dtype == "bfloat16" else 4
    told = tier(spec, model, "trainer").parts["activations"] - LOGITS_CHUNK * (b + 8) // 4
    assert 0.4 * told < sum(kept.values()) <= told


def test_each_tier_has_what_its_settings_give_it(model: Path) -> None:
    shape = read_shape(model)
    assert tier(job(), model, "rollout").parts["kv_cache"] == 1 << 30
    on_gpu = job(tiers={"rollout": {"gpus": 1}})
    found = tier(on_gpu, model, "rollout")
    assert (found.device, sequences_at_once(on_gpu)) == ("gpu", 64)
    assert (
        found.parts["kv_cache"] == kv_bytes(on_gpu, shape, 64 * 64) == 64 * 64 * 2 * 2 * 2 * 32 * 2
    )
    plain = tier(job(algorithm={"kind": "opsd"}), model, "teacher").parts["weights"]
    averaged = job(algorithm={"kind": "opsd", "teacher": {"ema": 0.1}})
    assert tier(averaged, model, "teacher").parts["weights"] == 3 * plain == 6 * shape.parameters
    tiers = [one.tier for one in footprints(job(algorithm={"kind": "grpo"}), shape)]
    assert tiers == ["rollout", "trainer", "verifier"]


def test_a_shape_is_read_without_the_weights(model: Path, tmp_path: Path) -> None:
    whole = read_shape(model)
    (tmp_path / "config.json").write_text((model / "config.json").read_text())
    computed = read_shape(tmp_path)
    assert (computed.parameters, computed.weights_known) == (whole.parameters, False)
    index = {"metadata": {"total_size": 4 * whole.parameters}, "weight_map": {}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert read_shape(tmp_path) == whole
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(ModelError, match="is no safetensors file"):
        read_shape(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="lacks a decoder's dimension"):
        read_shape(tmp_path)
