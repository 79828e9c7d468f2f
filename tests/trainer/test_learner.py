"""The learner: one honest step of AdamW on the surrogate, however the batch is cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn
from transformers import AutoModelForCausalLM

from tests.trainer.conftest import random_batch
from trainer.adamw import LearningError
from trainer.algorithm_spec import AlgorithmSpec, Grpo, Mix, Rlsd
from trainer.algorithms import AlgorithmError
from trainer.batch import BatchError
from trainer.learner import Learner
from trainer.losses import Aggregation
from trainer.packing import offsets
from trainer.policy import Dtype, Policy
from trainer.records import Batch
from trainer.scorer import Scorer
from trainer.spec import OptimizerSpec

DTYPES: list[Dtype] = ["float32", "bfloat16"]


def learner(
    folder: Path,
    algorithm: AlgorithmSpec | None = None,
    *,
    dtype: Dtype = "float32",
    **optimizer: Any,
) -> Learner:
    options = {"learning_rate": 1e-3, "microbatch_tokens": 64} | optimizer
    return Learner(
        folder,
        algorithm=algorithm or Grpo(),
        optimizer=OptimizerSpec(**options),
        dtype=dtype,
        temperature=0.7,
    )


def weights(one: Learner) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in one.masters.weights.items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def momentum(one: Learner) -> dict[str, torch.Tensor]:
    """Adam's first moment: a fixed blend of the clipped gradients, free of Adam's division."""
    tensors, _ = one.state()
    return {name: tensor for name, tensor in tensors.items() if name.startswith("exp_avg.")}


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max((a[name] - b[name]).abs().max().item() for name in a)


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean"])
def test_a_step_equals_one_written_out_with_transformers(
    tiny: Path, batch: Batch, aggregation: Aggregation
) -> None:
    one = learner(tiny, Grpo(aggregation=aggregation))
    metrics = one.learn(batch, 0)

    model = AutoModelForCausalLM.from_pretrained(tiny, attn_implementation="eager").eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    starts, terms = offsets(batch.lengths), []
    ends = offsets(batch.completion_lengths)
    for s, prompt in enumerate(batch.prompt_lengths):
        ids = torch.from_numpy(batch.tokens[starts[s] : starts[s + 1]].astype(np.int64))
        table = (model(ids[None]).logits[0] / 0.7).log_softmax(-1)
        logprobs = table[prompt - 1 : -1].gather(-1, ids[prompt:, None]).squeeze(-1)
        engine = torch.from_numpy(batch.engine_logprobs[ends[s] : ends[s + 1]])
        trust = (logprobs.detach() - engine).exp().clamp(max=2.0)
        terms.append(-float(batch.advantages[s]) * trust * (logprobs - logprobs.detach()).exp())
    if aggregation == "token_mean":
        loss = torch.cat(terms).mean()
    else:
        loss = torch.stack([term.mean() for term in terms]).mean()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()

    assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert metrics["grad_norm"] == pytest.approx(norm.item(), rel=1e-4)
    states = {f"exp_avg.{n}": optimizer.state[p]["exp_avg"] for n, p in model.named_parameters()}
    assert distance(momentum(one), states) < 1e-6
    moved = {name: parameter.detach() for name, parameter in model.named_parameters()}
    # Adam divides by the gradient's own size, so that a rounding of a tiny one shows.
    assert distance(weights(one), moved) < 5e-4


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_teacher_with_the_learners_weights_is_bit_identical(
    tiny: Path, batch: Batch, dtype: Dtype
) -> None:
    one = learner(tiny, dtype=dtype)
    one.learn(batch, 0)
    teacher = Scorer(Policy(tiny, dtype=dtype), temperature=0.7, microbatch_tokens=64)
    teacher.load_weights((name, weight.clone()) for name, weight in one.weights())
    said = teacher.score(batch.tokens, batch.lengths, batch.prompt_lengths)
    _, streams = one.learn_with_streams(batch, 1)
    assert np.array_equal(streams.student_logprobs, said)


def three_steps(folder: Path, algorithm: AlgorithmSpec, dtype: Dtype, *, hinted: bool) -> Learner:
    """A run whose teacher is synced every step and sees a hint, or an empty one."""
    one = learner(folder, algorithm, dtype=dtype)
    teacher = Scorer(Policy(folder, dtype=dtype), temperature=0.7, microbatch_tokens=64)
    for step in range(3):
        batch = random_batch(step)
        teacher.load_weights(one.weights())
        said = teacher.score(batch.tokens, batch.lengths, batch.prompt_lengths)
        scored = replace(batch, teacher_logprobs=batch.teacher_logprobs if hinted else said)
        one.learn(scored, step)
    return one


@pytest.mark.parametrize("dtype", DTYPES)
def test_rlsd_without_mix_is_grpo_bit_for_bit(tiny: Path, dtype: Dtype) -> None:
    grpo = three_steps(tiny, Grpo(), dtype, hinted=True)
    rlsd = three_steps(tiny, Rlsd(mix=Mix(start=0.0)), dtype, hinted=True)
    assert same(weights(grpo), weights(rlsd))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rlsd_with_an_empty_hint_and_a_fresh_teacher_is_grpo_bit_for_bit(
    tiny: Path, dtype: Dtype
) -> None:
    grpo = three_steps(tiny, Grpo(), dtype, hinted=False)
    rlsd = three_steps(tiny, Rlsd(mix=Mix(start=1.0)), dtype, hinted=False)
    assert same(weights(grpo), weights(rlsd))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rlsd_with_a_hint_is_not_grpo(tiny: Path, dtype: Dtype) -> None:
    grpo = three_steps(tiny, Grpo(), dtype, hinted=True)
    rlsd = three_steps(tiny, Rlsd(mix=Mix(start=1.0)), dtype, hinted=True)
    assert not same(weights(grpo), weights(rlsd))


def test_the_microbatch_budget_changes_nothing_but_roundings(tiny: Path, batch: Batch) -> None:
    whole, cut = learner(tiny, microbatch_tokens=10_000), learner(tiny, microbatch_tokens=16)
    first, second = whole.learn(batch, 0), cut.learn(batch, 0)
    assert first == pytest.approx(second, rel=1e-4)
    assert distance(momentum(whole), momentum(cut)) < 1e-6


def worker(rank: int, folder: Path, out: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{out}/meet", rank=rank, world_size=2)
    try:
        one = learner(folder, Rlsd(mix=Mix(end=0.5)), updates_per_batch=2)
        seen = [one.learn_with_streams(random_batch(step), step) for step in range(2)]
        torch.save(
            {
                "weights": weights(one),
                "momentum": momentum(one),
                "metrics": seen[0][0],
                "credit": torch.from_numpy(np.asarray(seen[0][1].credit)),
            },
            out / f"{rank}.pt",
        )
    finally:
        dist.destroy_process_group()


def test_two_workers_do_what_one_does(tiny: Path, tmp_path: Path) -> None:
    spawn(worker, args=(tiny, tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert same(first["weights"], second["weights"])

    one = learner(tiny, Rlsd(mix=Mix(end=0.5)), updates_per_batch=2)
    metrics, streams = one.learn_with_streams(random_batch(0), 0)
    one.learn(random_batch(1), 1)
    assert first["metrics"] == pytest.approx(metrics, rel=1e-4)
    assert streams.credit is not None
    assert np.allclose(first["credit"].numpy(), streams.credit, atol=1e-4)
    assert distance(momentum(one), first["momentum"]) < 1e-5


@pytest.mark.parametrize(
    ("field", "value"),
    [("advantages", np.nan), ("engine_logprobs", -np.inf), ("teacher_logprobs", np.nan)],
)
def test_a_batch_that_is_not_finite_is_refused_by_field(
    tiny: Path, batch: Batch, field: str, value: float
) -> None:
    bad = getattr(batch, field).copy()
    bad[2] = value
    one = learner(tiny)
    before = weights(one)
    with pytest.raises(BatchError, match=rf"{field}\[2\] is {value}"):
        one.learn(replace(batch, **{field: bad}), 0)
    assert same(before, weights(one))


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_update_that_is_not_finite_is_not_made(tiny: Path, batch: Batch, dtype: Dtype) -> None:
    one = learner(tiny, dtype=dtype)
    with torch.no_grad():
        one.masters.weights["model.norm.weight"][3] = float("nan")
    one.masters.publish()
    before = {name: w.clone() for name, w in one.masters.weights.items() if "norm" not in name}
    with pytest.raises(LearningError, match="step 5: the loss is nan"):
        one.learn(batch, 5)
    after = weights(one)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(gradient.any() for gradient in one.masters.gradients)


def test_arrays_of_the_wrong_length_are_refused(tiny: Path, batch: Batch) -> None:
    with pytest.raises(BatchError, match="teacher_logprobs"):
        learner(tiny).learn(replace(batch, teacher_logprobs=np.zeros(3, dtype=np.float32)), 0)
    with pytest.raises(BatchError, match="advantages"):
        learner(tiny).learn(replace(batch, advantages=batch.advantages[:-1]), 0)


def test_rlsd_without_a_teacher_is_refused(tiny: Path, untaught: Batch) -> None:
    with pytest.raises(AlgorithmError, match="teacher"):
        learner(tiny, Rlsd()).learn(untaught, 0)


def test_several_updates_of_a_batch_are_clipped_against_its_first_policy(
    tiny: Path, batch: Batch
) -> None:
    one = learner(tiny, updates_per_batch=4)
    before = one.score(batch.tokens, batch.lengths, batch.prompt_lengths)
    metrics, streams = one.learn_with_streams(batch, 0)
    assert metrics["updates"] == 4
    assert metrics["clip_share"] > 0
    assert np.array_equal(streams.student_logprobs, before)
    assert learner(tiny).learn(batch, 0)["clip_share"] == 0


def test_the_first_steps_warm_up(tiny: Path, batch: Batch) -> None:
    one = learner(tiny, warmup_steps=4)
    rates = [one.learn(batch, step)["learning_rate"] for step in range(6)]
    assert rates == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3, 1e-3])


def test_masters_keep_what_bfloat16_would_round_away(tiny: Path, batch: Batch) -> None:
    one = learner(tiny, dtype="bfloat16", learning_rate=1e-6)
    published = {name: weight.clone() for name, weight in one.weights()}
    before = weights(one)
    for step in range(2):
        one.learn(batch, step)
    name = "model.layers.0.mlp.up_proj.weight"
    moved = (weights(one)[name] - before[name]).abs()
    assert 1e-6 < moved.max() < 3e-6
    now = dict(one.weights())
    assert (now[name] == published[name]).float().mean() > 0.95
    assert all(w.dtype == torch.bfloat16 for w in now.values())
    assert all(p.grad is None for p in one.policy.module.parameters())


def test_streams_say_what_each_token_got(tiny: Path, batch: Batch) -> None:
    span = np.arange(len(batch.engine_logprobs)) % 2 == 0
    one = learner(tiny, Rlsd(mix=Mix(start=1.0, end=1.0)))
    student = one.score(batch.tokens, batch.lengths, batch.prompt_lengths)
    metrics, streams = one.learn_with_streams(replace(batch, span_mask=span), 0)
    advantages = np.repeat(batch.advantages, batch.completion_lengths)
    assert batch.teacher_logprobs is not None
    evidence = np.sign(advantages) * (batch.teacher_logprobs - student)
    expected = np.where(span, np.clip(np.exp(evidence), 0.8, 1.2), 1.0)
    assert np.allclose(streams.weights, expected, atol=1e-5)
    assert streams.credit is not None
    assert np.allclose(streams.credit, advantages * expected, atol=1e-5)
    assert metrics["weight_mean"] == pytest.approx(expected.mean(), rel=1e-4)
    assert metrics["mix"] == 1.0
    mismatch = np.abs(student - batch.engine_logprobs).mean()
    assert metrics["engine_mismatch"] == pytest.approx(mismatch, rel=1e-4)


def test_learning_raises_what_was_rewarded_and_lowers_what_was_not(tiny: Path) -> None:
    batch = random_batch(tasks=2, group=2)
    one = learner(tiny)

    def score() -> np.ndarray:
        return one.score(batch.tokens, batch.lengths, batch.prompt_lengths)

    signs = np.array([1, -1, 1, -1], dtype=np.float32)
    before = score()
    for step in range(5):
        one.learn(replace(batch, advantages=signs, engine_logprobs=score()), step)
    moved = score() - before
    sides = np.repeat(signs, batch.completion_lengths)
    assert moved[sides > 0].mean() > 0.5
    assert moved[sides < 0].mean() < -0.5
