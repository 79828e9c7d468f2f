"""The learner: one batch in, better weights out.

Executes what an algorithm's recipe says of each token: packs the batch, runs the policy
forward, assigns credit, descends the clipped surrogate. With torch.distributed initialised
each rank takes its share of the sequences, and N workers do what one does up to rounding.
Knows nothing of actors, tasks or text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from trainer import checkpoint
from trainer.algorithms import Signals, credit_factors, mix_at
from trainer.checkpoint import Checkpoint
from trainer.losses import clipped_surrogate, importance_weights, token_scales
from trainer.masters import Masters
from trainer.packing import Pack, pack, shares
from trainer.policy import Dtype, Policy
from trainer.records import Batch
from trainer.scorer import Scorer
from trainer.spec import AlgorithmSpec, OptimizerSpec


class LearningError(RuntimeError):
    """A batch that cannot be learned from, or an update that would ruin the weights."""


@dataclass(frozen=True, slots=True)
class Streams:
    """What one step gave to each completion token, for traces; all float32[C].

    student_logprobs  of the policy before the step (nats)
    weights           factor of the token's advantage
    credit            advantage times weight
    """

    student_logprobs: NDArray[np.float32]
    weights: NDArray[np.float32]
    credit: NDArray[np.float32]


@dataclass(slots=True)
class _Sums:
    """Sums over the completion tokens of this rank, until they become metrics."""

    tokens: float = 0.0
    loss: float = 0.0
    entropy: float = 0.0
    weight: float = 0.0
    clipped: float = 0.0
    capped: float = 0.0
    mismatch: float = 0.0


class Learner:
    """A trainable policy with its optimizer."""

    def __init__(
        self,
        model_path: str | Path,
        *,
        algorithm: AlgorithmSpec,
        optimizer: OptimizerSpec,
        dtype: Dtype = "bfloat16",
        temperature: float = 1.0,
        seed: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        """Load the policy. `temperature` is the one rollouts are sampled at.

        `seed` draws the minibatches when a batch is split into several updates. Raises
        ModelError when the folder holds no usable model.
        """
        torch.manual_seed(seed)
        self.algorithm, self.spec, self.seed = algorithm, optimizer, seed
        self.policy = Policy(model_path, dtype=dtype, device=device, trainable=True)
        self.masters = Masters(self.policy)
        self.scorer = Scorer(
            self.policy, temperature=temperature, microbatch_tokens=optimizer.microbatch_tokens
        )
        weights = self.masters.weights.values()
        groups = [
            # Norms and biases are not decayed: pulling them to zero is no prior.
            {"params": [w for w in weights if w.ndim >= 2], "weight_decay": optimizer.weight_decay},
            {"params": [w for w in weights if w.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=optimizer.learning_rate,
            betas=(optimizer.beta1, optimizer.beta2),
            fused=True,
        )

    def learn(self, batch: Batch, step: int) -> dict[str, float]:
        """Take step `step` (from 0) on `batch`; returns its metrics. See `learn_with_streams`."""
        return self.learn_with_streams(batch, step)[0]

    def learn_with_streams(self, batch: Batch, step: int) -> tuple[dict[str, float], Streams]:
        """Take step `step` (from 0) on `batch`; returns metrics and per-token streams.

        Every rank is given the whole batch. Metrics (means are over completion tokens):
        loss, grad_norm (before clipping; of the last update), learning_rate, mix, entropy
        (nats), weight_mean, clip_share (policy ratio clipped), importance_cap_share,
        engine_mismatch (mean |learner - engine| log-prob, nats), sequences, tokens,
        completion_tokens, updates.

        Raises LearningError when the batch is malformed or holds a non-finite number, and
        when loss or gradient is not finite; the weights are then those before that update.
        """
        _check(batch)
        rate = self._learning_rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        everything = np.arange(len(batch.lengths))
        count = len(batch.engine_logprobs)
        student = np.zeros(count, dtype=np.float32)
        factors = np.zeros(count, dtype=np.float32)
        sums, norm = _Sums(), 0.0

        minibatches = self._minibatches(len(everything), step)
        old: NDArray[np.float32] | None = None
        if len(minibatches) > 1:
            # Several updates move the policy under its own feet: the ratio needs a fixed base.
            own = everything[shares(batch.lengths, world_size())[rank()]]
            old = self.scorer.score(batch.tokens, batch.lengths, batch.prompt_lengths, own)
            old = reduced(old)
        for sequences in minibatches:
            loss = self._accumulate(batch, sequences, old, step, sums, student, factors)
            norm = self._update(step, loss)

        totals = reduced(np.array([getattr(sums, f.name) for f in fields(sums)]))
        total = _Sums(*totals.tolist())
        metrics = {
            "loss": total.loss / len(minibatches),
            "grad_norm": norm,
            "learning_rate": rate,
            "mix": mix_at(self.algorithm, step),
            "entropy": total.entropy / total.tokens,
            "weight_mean": total.weight / total.tokens,
            "clip_share": total.clipped / total.tokens,
            "importance_cap_share": total.capped / total.tokens,
            "engine_mismatch": total.mismatch / total.tokens,
            "sequences": float(len(everything)),
            "tokens": float(len(batch.tokens)),
            "completion_tokens": float(count),
            "updates": float(len(minibatches)),
        }
        student, factors = reduced(student), reduced(factors)
        spread = np.repeat(batch.advantages, batch.completion_lengths)
        return metrics, Streams(student, factors, factors * spread)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Name and value of every weight in the compute dtype, as the model folder names them."""
        return self.policy.weights()

    def score(
        self,
        tokens: NDArray[np.int32],
        lengths: NDArray[np.int32],
        prompt_lengths: NDArray[np.int32],
    ) -> NDArray[np.float32]:
        """float32[C]: log-probs of all completion tokens; see Scorer.score."""
        return self.scorer.score(tokens, lengths, prompt_lengths)

    def logprobs_of(self, token_ids: Iterable[int]) -> NDArray[np.float32]:
        """float32[n - 1]: log-probs of a canary's tokens; see Scorer.logprobs_of."""
        return self.scorer.logprobs_of(token_ids)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything but the published weights that a bit-for-bit resume needs.

        Tensors (float32 masters, optimizer moments, RNG) and plain data.
        """
        tensors: dict[str, Tensor] = {"rng.cpu": torch.get_rng_state()}
        if self.policy.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.policy.device)
        updates = 0
        for name, weight in self.masters.weights.items():
            tensors[f"master.{name}"] = weight.detach()
            moments = self.optimizer.state[weight]
            if moments:
                tensors[f"exp_avg.{name}"] = moments["exp_avg"]
                tensors[f"exp_avg_sq.{name}"] = moments["exp_avg_sq"]
                updates = int(moments["step"].item())
        return tensors, {"updates": updates}

    def restore(self, tensors: dict[str, Tensor], data: dict[str, Any]) -> None:
        """Continue from what `state` returned. Raises LearningError when it is of another model."""
        wanted = {name: f"master.{name}" for name in self.masters.weights}
        wrong = [
            name
            for name, key in wanted.items()
            if key not in tensors or tensors[key].shape != self.masters.weights[name].shape
        ]
        if wrong:
            raise LearningError(
                f"the saved state does not belong to this model: {len(wrong)} weight(s) differ, "
                f"e.g. {wrong[0]}"
            )
        self.masters.restore({name: tensors[key] for name, key in wanted.items()})
        self.optimizer.state.clear()
        for name, weight in self.masters.weights.items():
            if f"exp_avg.{name}" in tensors:
                self.optimizer.state[weight] = {
                    "step": torch.tensor(float(data["updates"]), device=weight.device),
                    "exp_avg": tensors[f"exp_avg.{name}"].to(weight.device, copy=True),
                    "exp_avg_sq": tensors[f"exp_avg_sq.{name}"].to(weight.device, copy=True),
                }
        torch.set_rng_state(tensors["rng.cpu"].cpu())
        if "rng.cuda" in tensors and self.policy.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["rng.cuda"].cpu(), self.policy.device)

    def save(
        self, root: str | Path, *, step: int, cursor: dict[str, Any], keep: int
    ) -> Checkpoint | None:
        """Write a checkpoint of `step` done steps; rank 0 alone, None elsewhere. See checkpoint.save."""
        if rank() != 0:
            return None
        tensors, data = self.state()
        return checkpoint.save(
            root,
            step=step,
            policy=self.policy,
            tensors=tensors,
            data=data,
            cursor=cursor,
            keep=keep,
        )

    def resume(self, saved: Checkpoint) -> None:
        """Continue from a checkpoint, bit for bit. Raises CheckpointError or LearningError."""
        self.restore(*saved.load())

    def _learning_rate(self, step: int) -> float:
        warm = self.spec.warmup_steps
        return self.spec.learning_rate * (min(1.0, (step + 1) / warm) if warm else 1.0)

    def _minibatches(self, count: int, step: int) -> list[NDArray[np.int64]]:
        """The sequences of each update: all in order, or a seeded shuffle dealt out."""
        updates = min(self.spec.updates_per_batch, count)
        if updates == 1:
            return [np.arange(count)]
        order = np.random.default_rng((self.seed, step)).permutation(count)
        # Sorted, so that the rollouts of one task stay neighbours and share their prompt.
        return [np.sort(part) for part in np.array_split(order, updates)]

    def _accumulate(
        self,
        batch: Batch,
        sequences: NDArray[np.int64],
        old: NDArray[np.float32] | None,
        step: int,
        sums: _Sums,
        student: NDArray[np.float32],
        factors: NDArray[np.float32],
    ) -> float:
        """Gradients of this rank's share of one update; fills the streams; returns its loss."""
        lengths = batch.completion_lengths
        chosen = np.zeros(len(lengths), dtype=bool)
        chosen[sequences] = True
        scales = np.zeros(len(batch.engine_logprobs), dtype=np.float32)
        scales[np.repeat(chosen, lengths)] = token_scales(
            lengths[sequences], self.algorithm.aggregation
        )
        spread = np.repeat(batch.advantages, lengths)
        own = sequences[shares(batch.lengths[sequences], world_size())[rank()]]
        loss = 0.0
        for part in pack(
            batch.tokens,
            batch.lengths,
            batch.prompt_lengths,
            budget=self.spec.microbatch_tokens,
            sequences=own,
        ):
            logprobs, entropies = self.policy.completion_logprobs(part, self.scorer.temperature)
            base = logprobs.detach() if old is None else self._at(old, part)
            signals = Signals(
                advantages=self._at(spread, part),
                student=base,
                teacher=self._at(batch.teacher_logprobs, part),
                span=self._at(batch.span_mask, part),
            )
            weights = credit_factors(self.algorithm, signals, step)
            engine = self._at(batch.engine_logprobs, part)
            importance = importance_weights(base, engine, cap=self.algorithm.importance_cap)
            surrogate = clipped_surrogate(
                logprobs,
                base,
                signals.advantages * weights,
                importance,
                self._at(scales, part),
                clip_low=self.algorithm.clip_low,
                clip_high=self.algorithm.clip_high,
            )
            surrogate.loss.backward()
            loss += surrogate.loss.item()
            student[part.completions] = base.cpu().numpy()
            factors[part.completions] = weights.cpu().numpy()
            sums.tokens += len(part.completions)
            sums.entropy += entropies.sum().item()
            sums.weight += weights.sum().item()
            sums.clipped += surrogate.clipped.sum().item()
            sums.capped += (importance >= self.algorithm.importance_cap).sum().item()
            sums.mismatch += (base - engine).abs().sum().item()
        sums.loss += loss
        return loss

    def _update(self, step: int, loss: float) -> float:
        """One optimizer update from the gradients of all ranks; returns their norm."""
        gradients = self.masters.gradients
        if world_size() > 1:
            for gradient in gradients:
                dist.all_reduce(gradient)
        norm = torch.nn.utils.get_total_norm(gradients)
        total = reduced(np.array([loss])).item()
        if not (np.isfinite(total) and torch.isfinite(norm)):
            self.masters.clear_gradients()
            raise LearningError(
                f"step {step}: the loss is {total} and the gradient norm {norm.item()}; the update "
                "was not made. A lower optimizer.learning_rate, or model.dtype float32, may help"
            )
        torch.nn.utils.clip_grads_with_norm_(
            self.masters.weights.values(), self.spec.max_grad_norm, norm
        )
        self.optimizer.step()
        self.masters.publish()
        self.masters.clear_gradients()
        return norm.item()

    def _at(self, values: NDArray[Any] | None, part: Pack) -> Any:
        """The flat values of a pack's completion tokens, on the policy's device."""
        if values is None:
            return None
        return torch.from_numpy(values[part.completions]).to(self.policy.device)


def rank() -> int:
    """This worker's number; 0 without torch.distributed."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Workers that share a batch; 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_initialized() else 1


def reduced(values: NDArray[Any]) -> NDArray[Any]:
    """The sum of `values` over all ranks, on every rank."""
    if world_size() == 1:
        return values
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    tensor = torch.from_numpy(values.copy()).to(device)
    dist.all_reduce(tensor)
    return tensor.cpu().numpy()


def _check(batch: Batch) -> None:
    """Refuse a batch whose arrays do not fit each other or hold a non-finite number."""
    sequences, completions = len(batch.lengths), int(np.sum(batch.completion_lengths))
    per_token = {
        "engine_logprobs": batch.engine_logprobs,
        "teacher_logprobs": batch.teacher_logprobs,
        "span_mask": batch.span_mask,
    }
    if len(batch.advantages) != sequences:
        raise LearningError(f"{sequences} sequences, but {len(batch.advantages)} advantages")
    for name, values in per_token.items():
        if values is not None and len(values) != completions:
            raise LearningError(f"{completions} completion tokens, but {len(values)} {name}")
    for name, values in {"advantages": batch.advantages, **per_token}.items():
        if values is not None and not np.isfinite(values).all():
            where = int(np.flatnonzero(~np.isfinite(values))[0])
            raise LearningError(f"{name}[{where}] is {values[where]}: a batch must be finite")
