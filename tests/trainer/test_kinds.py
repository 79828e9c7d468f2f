"""Every algorithm end to end through the learner: its gradient is that of the method written
out plainly over whole logits, however the batch is cut, ordered and padded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModelForCausalLM

from tests.tiny_model import make_tiny_model
from tests.trainer.conftest import random_batch
from trainer.adamw import LearningError
from trainer.algorithm_spec import (
    AlgorithmSpec,
    External,
    Grpo,
    GrpoOpsd,
    Mix,
    Opd,
    Opsd,
    PolicyGradient,
    Rlsd,
    Sdpo,
)
from trainer.learner import KL_SAMPLE, Learner
from trainer.packing import offsets
from trainer.policy import Dtype
from trainer.records import Batch
from trainer.spec import OptimizerSpec

K = 5
TEMPERATURE = 0.7
MIX = Mix(start=0.8, end=0.8)
KINDS: dict[str, AlgorithmSpec] = {
    "grpo": Grpo(),
    "grpo, constant": Grpo(aggregation="constant", normalize_std=False),
    "grpo, penalty": Grpo(kl=0.2, aggregation="sequence_mean"),
    "gspo": Grpo(ratio="sequence", aggregation="sequence_mean"),
    "cispo": Grpo(ratio="cispo"),
    "rlsd": Rlsd(mix=MIX),
    "rlsd, contrastive": Rlsd(mix=MIX, evidence="contrastive"),
    "rlsd, reversed": Rlsd(mix=MIX, evidence="reversed"),
    "opd, sampled": Opd(teacher=External(path="t")),
    "opd, forward": Opd(teacher=External(path="t"), divergence="forward_kl", top_k=K),
    "opsd, jensen": Opsd(divergence=0.5, top_k=K, token_clip=1.5),
    "sdpo, reverse": Sdpo(top_k=K, kl=0.1),
    "grpo_opsd": GrpoOpsd(alpha=0.3, top_k=K, divergence="forward_kl"),
}


def batch_of(seed: int = 0) -> Batch:
    """Twelve sequences with all that any teacher says; two have no advantage, three no context."""
    batch = random_batch(seed)
    rng = np.random.default_rng(seed)
    count = len(batch.engine_logprobs)
    logits = torch.from_numpy(rng.normal(size=(count, 320)) * 2).float()
    top = logits.log_softmax(-1).topk(K)
    advantages = batch.advantages.copy()
    advantages[[1, 7]] = 0
    taught = np.ones(len(batch.lengths), np.bool_)
    taught[[0, 1, 9]] = False
    return replace(
        batch,
        advantages=advantages,
        contrast_logprobs=rng.uniform(-6, -1, count).astype(np.float32),
        top_ids=top.indices.numpy().astype(np.int32),
        top_logprobs=top.values.numpy(),
        taught=taught,
    )


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model not far away: the weights that a run is said to have started from."""
    folder = make_tiny_model(tmp_path_factory.mktemp("other"))
    model = AutoModelForCausalLM.from_pretrained(folder)
    generator = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        weight.data += 0.01 * torch.randn(weight.shape, generator=generator)
    model.save_pretrained(folder)
    return folder


def learner(
    folder: Path, spec: AlgorithmSpec, start: Path | None = None, **changes: Any
) -> Learner:
    dtype: Dtype = changes.pop("dtype", "float64")
    options = {"learning_rate": 1e-3, "microbatch_tokens": 48, "max_grad_norm": 1e6} | changes
    return Learner(
        folder,
        algorithm=spec,
        optimizer=OptimizerSpec(**options),
        dtype=dtype,
        temperature=TEMPERATURE,
        steps=10,
        max_tokens=9,
        start_path=start,
    )


def gradients(one: Learner, batch: Batch) -> dict[str, Tensor]:
    """Of the learner's first update: Adam's first moment is a tenth of them."""
    one.learn(batch, 0)
    tensors, _ = one.state()
    prefix = "exp_avg."
    return {n.removeprefix(prefix): 10 * x for n, x in tensors.items() if n.startswith(prefix)}


def widest_gap(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The largest difference; relative, where the gradients themselves exceed 1."""
    assert a.keys() == b.keys()
    gap = max((a[name] - b[name]).abs().max().item() for name in a)
    return gap / max(1.0, *(x.abs().max().item() for x in a.values()))


def tables(model: Any, batch: Batch) -> list[Tensor]:
    """Log-probs [T, V] of each sequence's completion, over whole logits."""
    starts, found = offsets(batch.lengths), []
    for s, prompt in enumerate(batch.prompt_lengths):
        ids = torch.from_numpy(batch.tokens[starts[s] : starts[s + 1]].astype(np.int64))
        logits = model(ids[None]).logits[0, prompt - 1 : -1]
        found.append((logits / TEMPERATURE).log_softmax(-1))
    return found


def tailed(table: Tensor) -> Tensor:
    """Probabilities of K tokens and of all others."""
    return torch.cat([table.exp(), 1 - table.exp().sum(-1, keepdim=True)], -1)


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p / q).log()).sum(-1)


def plain_divergence(spec: Any, table: Tensor, ids: Tensor, top: Tensor) -> Tensor:
    student, teacher = tailed(table.gather(-1, ids)), tailed(top)
    if spec.divergence == "reverse_kl":
        found = kl(student, teacher)
    elif spec.divergence == "forward_kl":
        found = kl(teacher, student)
    else:
        b = float(spec.divergence)
        mixture = b * teacher + (1 - b) * student
        found = b * kl(teacher, mixture) + (1 - b) * kl(student, mixture)
    return found if spec.token_clip is None else found.clamp(max=spec.token_clip)


def plain_weights(spec: AlgorithmSpec, advantage: float, teacher: Tensor, contrast: Tensor, student: Tensor) -> Tensor:  # fmt: skip
    if not isinstance(spec, Rlsd) or advantage == 0:
        return torch.ones_like(student)
    evidence = teacher - (contrast if spec.contrasts else student)
    sign = np.sign(advantage)
    if spec.evidence == "reversed":
        evidence, sign = -evidence, max(sign, 0.0)
    weights = (sign * evidence).exp().clamp(1 - spec.token_clip, 1 + spec.token_clip)
    return (1 - spec.mix.start) + spec.mix.start * weights


def plain_gradients(
    folder: Path, start: Path, spec: AlgorithmSpec, batch: Batch
) -> dict[str, Tensor]:
    """The method as its papers write it, one sequence after the other."""
    model, first = (
        AutoModelForCausalLM.from_pretrained(
            path, attn_implementation="sdpa", dtype=torch.float64
        ).eval()
        for path in (folder, start)
    )
    lengths, ends = batch.completion_lengths, offsets(batch.completion_lengths)
    starts = offsets(batch.lengths)
    with torch.no_grad():
        anchors = tables(first, batch)
    rewarded: list[Tensor] = []
    distilled: list[Tensor] = []
    anchored: list[Tensor] = []
    for s, table in enumerate(tables(model, batch)):
        part = slice(int(ends[s]), int(ends[s + 1]))

        def stream(values: Any, part: slice = part) -> Tensor:
            return torch.from_numpy(values[part]).double()

        own = batch.tokens[starts[s] + batch.prompt_lengths[s] : starts[s + 1]].astype(np.int64)
        column = torch.from_numpy(own)[:, None]
        logprobs = table.gather(-1, column)[:, 0]
        student = logprobs.detach()
        trust = (student - stream(batch.engine_logprobs)).exp().clamp(max=spec.importance_cap)
        teacher, contrast = stream(batch.teacher_logprobs), stream(batch.contrast_logprobs)
        taught = bool(batch.is_taught[s])
        advantage = float(batch.advantages[s])
        weights = plain_weights(spec, advantage, teacher, contrast, student)
        weights = weights if taught else torch.ones_like(weights)
        rewarded.append(-trust * advantage * weights * (logprobs - student).exp())
        gap = anchors[s].gather(-1, column)[:, 0] - logprobs
        anchored.append(gap.exp() - gap - 1)
        if taught and not isinstance(spec, Grpo | Rlsd):
            ids = torch.from_numpy(batch.top_ids[part].astype(np.int64))  # pyright: ignore[reportOptionalSubscript]
            if spec.top_k:
                found = plain_divergence(spec, table, ids, stream(batch.top_logprobs))
            else:
                found = logprobs * (student - teacher)
            distilled.append(trust * found)

    def mean(terms: list[Tensor]) -> Tensor:
        if spec.aggregation == "token_mean":
            return torch.cat(terms).mean()
        if spec.aggregation == "sequence_mean":
            return torch.stack([term.mean() for term in terms]).mean()
        return torch.cat(terms).sum() / (len(terms) * 9)

    share = {"grpo": 1.0, "rlsd": 1.0, "grpo_opsd": 1 - getattr(spec, "alpha", 0.0)}.get(spec.kind, 0.0)  # fmt: skip
    loss = share * mean(rewarded) + spec.kl * mean(anchored)
    if distilled:
        loss = loss + (1 - share) * mean(distilled)
    assert len(lengths) == len(rewarded)
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_the_method_written_out(tiny: Path, other: Path, kind: str) -> None:
    spec, batch = KINDS[kind], batch_of()
    expected = plain_gradients(tiny, other, spec, batch)
    found = gradients(learner(tiny, spec, other), batch)
    assert max(x.abs().max().item() for x in expected.values()) > 1e-3
    assert widest_gap(found, expected) < 1e-6


def reordered(batch: Batch, order: np.ndarray) -> Batch:
    """The same sequences in another order."""
    starts, ends = offsets(batch.lengths), offsets(batch.completion_lengths)

    def cut(values: Any, bounds: Any) -> Any:
        return np.concatenate([values[bounds[s] : bounds[s + 1]] for s in order])

    changes: dict[str, Any] = {"tokens": cut(batch.tokens, starts)}
    for name in ("lengths", "prompt_lengths", "advantages", "taught"):
        changes[name] = getattr(batch, name)[order]
    for name in ("engine", "teacher", "contrast", "top"):
        changes[f"{name}_logprobs"] = cut(getattr(batch, f"{name}_logprobs"), ends)
    return replace(batch, top_ids=cut(batch.top_ids, ends), **changes)


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10**6), budget=st.integers(16, 400))
def test_order_and_cut_of_a_batch_change_no_gradient(
    tiny: Path, other: Path, kind: str, seed: int, budget: int
) -> None:
    """Packs of another budget lie in blocks of another width: padding is varied too."""
    spec, batch = KINDS[kind], batch_of(seed)
    order = np.random.default_rng(seed).permutation(len(batch.lengths))
    whole = gradients(learner(tiny, spec, other, microbatch_tokens=1000), batch)
    parts = gradients(learner(tiny, spec, other, microbatch_tokens=budget), reordered(batch, order))
    assert widest_gap(whole, parts) < 1e-6


@pytest.mark.parametrize("kind", ["rlsd", "opsd, jensen", "grpo_opsd"])
def test_half_precision_points_the_same_way(tiny: Path, kind: str) -> None:
    exact, rough = (
        gradients(learner(tiny, KINDS[kind], dtype=dtype), batch_of())
        for dtype in ("float32", "bfloat16")
    )
    a, b = (torch.cat([x.double().flatten() for x in g.values()]) for g in (exact, rough))
    assert torch.cosine_similarity(a, b, dim=0) > 0.99


def descends(folder: Path, spec: AlgorithmSpec) -> list[float]:
    """Its measure over eight steps on one batch that the engine sampled from the policy."""
    one, batch, seen = learner(folder, spec, learning_rate=3e-3), batch_of(), []
    for step in range(8):
        engine = one.score(batch.tokens, batch.lengths, batch.prompt_lengths)
        seen.append(one.learn(replace(batch, engine_logprobs=engine), step)["divergence"])
    return seen


@pytest.mark.parametrize("kind", ["opd, forward", "opsd, jensen", "sdpo, reverse"])
def test_distillation_brings_the_policy_towards_its_teacher(tiny: Path, kind: str) -> None:
    seen = descends(tiny, KINDS[kind])
    assert seen[-1] < 0.8 * seen[0]


@pytest.mark.parametrize("kind", ["grpo", "rlsd", "cispo"])
def test_what_cannot_move_the_policy_is_not_run_and_not_missed(tiny: Path, kind: str) -> None:
    """With a penalty of next to nothing every sequence is run; the gradient is the same."""
    spec, batch = KINDS[kind], batch_of()
    spared, whole = (
        learner(tiny, spec),
        learner(tiny, spec.model_copy(update={"kl": 1e-300})),
    )
    assert widest_gap(gradients(spared, batch), gradients(whole, batch)) < 1e-12
    counts = [one.learn(batch, 1)["learned_tokens"] for one in (spared, whole)]
    idle = batch.completion_lengths[batch.advantages == 0].sum()
    assert idle > 0
    assert counts[1] - counts[0] == idle


def test_a_batch_without_contrast_is_looked_at_and_moves_nothing(tiny: Path) -> None:
    one = learner(tiny, Grpo())
    batch = replace(batch_of(), advantages=np.zeros(12, np.float32))
    before = {name: weight.clone() for name, weight in one.weights()}
    metrics, streams = one.learn_with_streams(batch, 0)
    assert metrics["grad_norm"] == 0
    assert metrics["zero_advantage_share"] == 1
    assert metrics["entropy"] > 0
    assert metrics["kl_start"] == pytest.approx(0, abs=1e-9)
    assert all(torch.equal(before[name], weight) for name, weight in one.weights())
    known = ~np.isnan(streams.student_logprobs)
    assert known.sum() == metrics["learned_tokens"]
    assert 0 < known.sum() < len(known), f"{KL_SAMPLE} of 12 sequences are run"
    assert not np.asarray(streams.credit).any()


def test_the_first_weights_stay_a_fixed_anchor(tiny: Path) -> None:
    one, batch = learner(tiny, Grpo(), dtype="float32"), batch_of()
    distances = [one.learn(batch, step)["kl_start"] for step in range(4)]
    assert distances[0] == pytest.approx(0, abs=1e-9)
    assert 0 < distances[1] < distances[3]


def test_diagnostics_tell_evidence_by_the_sign_of_the_advantage(tiny: Path) -> None:
    spec, batch = Rlsd(mix=MIX), batch_of()
    one = learner(tiny, spec)
    student = one.score(batch.tokens, batch.lengths, batch.prompt_lengths)
    metrics, streams = one.learn_with_streams(batch, 0)
    lengths = batch.completion_lengths
    signs, taught = np.repeat(batch.advantages, lengths), np.repeat(batch.is_taught, lengths)
    evidence = np.where(taught, np.asarray(batch.teacher_logprobs) - student, 0)
    assert metrics["evidence_rewarded"] == pytest.approx(evidence[signs > 0].mean(), rel=1e-4)
    assert metrics["evidence_blamed"] == pytest.approx(evidence[signs < 0].mean(), rel=1e-4)
    reached = np.abs(np.exp(np.sign(signs) * evidence) - 1) >= 0.2
    share = reached[signs != 0].mean()
    assert metrics["weight_clip_share"] == pytest.approx(share, abs=1e-9)
    step = np.abs(np.asarray(streams.credit)).sum() / np.abs(signs).sum()
    assert metrics["effective_step"] == pytest.approx(step, rel=1e-5)
    assert metrics["taught_share"] == pytest.approx(0.8), "eight of ten with an advantage"


def test_an_exploding_gradient_is_not_followed(tiny: Path) -> None:
    batch = batch_of()
    one = learner(tiny, Grpo(), max_grad_norm=1e-9)
    before = {name: weight.clone() for name, weight in one.weights()}
    with pytest.raises(LearningError, match=r"step 3: .* gradient norm .* the update was not made"):
        one.learn(batch, 3)
    assert all(torch.equal(before[name], weight) for name, weight in one.weights())


def test_lengths_that_a_setting_is_relative_to_must_be_known(tiny: Path) -> None:
    from trainer.algorithms import AlgorithmError

    for spec, words in [
        (Grpo(aggregation="constant"), "max_tokens"),
        (Rlsd(mix=Mix(over="10%")), r"mix\.over is 10%"),
    ]:
        with pytest.raises(AlgorithmError, match=words):
            Learner(tiny, algorithm=spec, optimizer=OptimizerSpec())
    assert isinstance(KINDS["gspo"], PolicyGradient)


@pytest.mark.parametrize("kind", ["rlsd, contrastive", "opsd, jensen", "sdpo, reverse"])
def test_a_batch_without_any_context_needs_nothing_of_a_teacher(tiny: Path, kind: str) -> None:
    batch = batch_of()
    bare = replace(
        batch,
        taught=np.zeros(len(batch.lengths), np.bool_),
        teacher_logprobs=np.zeros_like(batch.engine_logprobs),
        contrast_logprobs=None,
        top_ids=None,
        top_logprobs=None,
    )
    metrics = learner(tiny, KINDS[kind]).learn(bare, 0)
    assert metrics["taught_share"] == 0
    if kind.startswith("rlsd"):
        assert metrics["weight_mean"] == 1, (
            "without evidence a completion's credit is its advantage"
        )
