"""The packed policy says what transformers says of each sequence alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from tests.tiny_model import make_tiny_model, make_tokenizer
from tests.trainer.conftest import random_batch
from trainer.model_files import ModelError, looks_like_model
from trainer.packing import offsets, pack
from trainer.policy import SHORT, Policy
from trainer.records import Batch
from trainer.scorer import Scorer

SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "initializer_range": 0.2,
    "max_position_embeddings": 2048,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def save(config: PreTrainedConfig, folder: Path) -> Path:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def alone(folder: Path, batch: Batch, temperature: float) -> np.ndarray:
    """Log-probs of the completions, one sequence at a time, through transformers itself."""
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    starts, found = offsets(batch.lengths), []
    for s, prompt in enumerate(batch.prompt_lengths):
        ids = torch.from_numpy(batch.tokens[starts[s] : starts[s + 1]].astype(np.int64))
        with torch.no_grad():
            table = (model(ids[None]).logits[0] / temperature).log_softmax(-1)
        found.append(table[prompt - 1 : -1].gather(-1, ids[prompt:, None]).squeeze(-1).numpy())
    return np.concatenate(found)


def packed(folder: Path, batch: Batch, temperature: float, budget: int) -> np.ndarray:
    scorer = Scorer(
        Policy(folder, dtype="float32"), temperature=temperature, microbatch_tokens=budget
    )
    return scorer.score(batch.tokens, batch.lengths, batch.prompt_lengths)


@pytest.mark.parametrize("budget", [16, 40, 10_000])
def test_packed_log_probs_equal_those_of_each_sequence_alone(tiny: Path, budget: int) -> None:
    batch = random_batch()
    expected = alone(tiny, batch, 0.6)
    assert expected.std() > 1
    assert np.abs(packed(tiny, batch, 0.6, budget) - expected).max() < 2e-5


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(Qwen2Config(**SIZES, tie_word_embeddings=True), id="qwen2"),
        pytest.param(Qwen3Config(**SIZES, tie_word_embeddings=False), id="qwen3"),
        pytest.param(MistralConfig(**SIZES, sliding_window=7), id="mistral-sliding-window"),
    ],
)
def test_other_families_are_scored_right(config: PreTrainedConfig, tmp_path: Path) -> None:
    folder = save(config, tmp_path)
    batch = random_batch(1, longest=14)
    assert np.abs(packed(folder, batch, 1.0, 64) - alone(folder, batch, 1.0)).max() < 5e-5


def test_long_sequences_are_scored_right_beside_short_ones(tiny: Path) -> None:
    long, short = random_batch(2, tasks=1, group=1, longest=2), random_batch(3, tasks=1, group=2)
    rng = np.random.default_rng(0)
    completion = rng.integers(3, 250, SHORT + 40).astype(np.int32)
    prompt = long.tokens[: long.prompt_lengths[0]]
    batch = Batch(
        tokens=np.concatenate([short.tokens, prompt, completion]),
        lengths=np.append(short.lengths, np.int32(len(prompt) + len(completion))),
        prompt_lengths=np.append(short.prompt_lengths, np.int32(len(prompt))),
        advantages=np.zeros(3, dtype=np.float32),
        engine_logprobs=np.zeros(0, dtype=np.float32),
    )
    assert np.abs(packed(tiny, batch, 1.0, 10_000) - alone(tiny, batch, 1.0)).max() < 5e-5


def test_a_neighbour_in_the_pack_changes_nothing(tiny: Path) -> None:
    batch = random_batch()
    policy = Policy(tiny, dtype="float32")
    (part,) = pack(batch.tokens, batch.lengths, batch.prompt_lengths, budget=10_000)
    other = batch.tokens.copy()
    other[: batch.lengths[0]] = 7
    (changed,) = pack(other, batch.lengths, batch.prompt_lengths, budget=10_000)
    first = int(batch.lengths[0] - batch.prompt_lengths[0])
    with torch.no_grad():
        before, _ = policy.completion_logprobs(part, 1.0)
        after, _ = policy.completion_logprobs(changed, 1.0)
    assert torch.allclose(before[first:], after[first:], atol=1e-5)
    assert not torch.allclose(before[:first], after[:first], atol=1e-2)


def test_bfloat16_stays_near_float32(tiny: Path) -> None:
    batch = random_batch()
    coarse = Scorer(Policy(tiny, dtype="bfloat16"), temperature=1.0, microbatch_tokens=64)
    found = coarse.score(batch.tokens, batch.lengths, batch.prompt_lengths)
    assert np.abs(found - alone(tiny, batch, 1.0)).mean() < 0.1


def test_a_scorer_with_the_learners_weights_says_the_same(tiny: Path, tmp_path: Path) -> None:
    other = Policy(make_tiny_model(tmp_path, seed=1), dtype="float32")
    scorer = Scorer(Policy(tiny, dtype="float32"), temperature=1.0, microbatch_tokens=64)
    canary = range(3, 20)
    before = scorer.logprobs_of(canary)
    scorer.load_weights(other.weights())
    after = scorer.logprobs_of(canary)
    theirs = Scorer(other, temperature=1.0, microbatch_tokens=64).logprobs_of(canary)
    assert len(after) == 16
    assert np.array_equal(after, theirs)
    assert not np.array_equal(after, before)


def test_tied_weights_are_named_once_and_untied_ones_twice(tiny: Path, tmp_path: Path) -> None:
    untied = make_tiny_model(tmp_path, tie_word_embeddings=False)
    assert "lm_head.weight" not in dict(Policy(tiny).weights())
    names = dict(Policy(untied).weights())
    assert {"lm_head.weight", "model.embed_tokens.weight"} <= names.keys()


def test_weights_that_do_not_fit_are_refused_by_name(tiny: Path) -> None:
    policy = Policy(tiny)
    with pytest.raises(ModelError, match=r"no\.such\.weight"):
        policy.load_weights([("no.such.weight", torch.zeros(1))])
    with pytest.raises(ModelError, match=r"model\.norm\.weight of shape \(3,\)"):
        policy.load_weights([("model.norm.weight", torch.zeros(3))])
    with pytest.raises(ModelError, match="missing"):
        policy.load_weights([("model.norm.weight", torch.ones(64))])


def broken(tiny: Path, folder: Path, name: str, content: str | None) -> Path:
    shutil.copytree(tiny, folder, dirs_exist_ok=True)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    return folder


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.json", None, "config.json cannot be read"),
        ("config.json", "{", "is not JSON"),
        ("config.json", "{}", "names no model_type"),
        ("model.safetensors", None, "no \\*.safetensors"),
        ("tokenizer.json", None, "no tokenizer"),
    ],
)
def test_a_folder_that_is_no_model_is_refused_with_its_fault(
    tiny: Path, tmp_path: Path, name: str, content: str | None, reason: str
) -> None:
    assert looks_like_model(tiny) is None
    with pytest.raises(ModelError, match=reason):
        Policy(broken(tiny, tmp_path, name, content))


def test_damaged_weights_are_refused(tiny: Path, tmp_path: Path) -> None:
    folder = broken(tiny, tmp_path, "model.safetensors", "not safetensors at all")
    with pytest.raises(ModelError, match="cannot be loaded"):
        Policy(folder)


def test_absent_weights_are_refused_instead_of_drawn_at_random(tiny: Path, tmp_path: Path) -> None:
    config = json.loads((tiny / "config.json").read_text()) | {"num_hidden_layers": 3}
    folder = broken(tiny, tmp_path, "config.json", json.dumps(config))
    with pytest.raises(ModelError, match="lacks"):
        Policy(folder)


def test_a_model_that_bends_its_logits_is_refused(tmp_path: Path) -> None:
    sizes = SIZES | {"final_logit_softcapping": 30.0, "bos_token_id": 1}
    folder = save(AutoConfig.for_model("gemma2", **sizes), tmp_path)
    with pytest.raises(ModelError, match="final_logit_softcapping"):
        Policy(folder)
