"""The learner: one batch in, better weights out.

Executes what an algorithm's recipe says of each token: packs the batch, runs the policy
forward, descends the recipe's loss. With torch.distributed initialised each rank takes its
share of the sequences, and N workers do what one does up to rounding. Knows nothing of
actors, tasks or text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer import checkpoint
from trainer.adamw import AdamW
from trainer.algorithm_spec import AlgorithmSpec, Distillation, PolicyGradient, Rlsd
from trainer.algorithms import AlgorithmError, Tokens, mix_at, require, run, with_gradient
from trainer.batch import check
from trainer.checkpoint import Checkpoint
from trainer.diagnostics import Sums
from trainer.logprobs import Distribution, wide_dtype
from trainer.losses import importance_weights, token_scales
from trainer.masters import Masters
from trainer.packing import Pack, pack, shares
from trainer.policy import Dtype, Policy
from trainer.ranks import rank, reduced, world_size
from trainer.records import Batch
from trainer.scorer import Scorer
from trainer.spec import OptimizerSpec

KL_SAMPLE = 8
"""Completions of a step whose KL to the first weights is measured: about 3 % of its cost."""

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Streams:
    """What one step gave to each of C completion tokens, for traces.

    student_logprobs      float32[C]     of the policy before the step (nats); NaN where it was not
                                         asked, because the sequence could not move it
    weights               float32[C]     factor of the token's advantage
    credit                float32[C]     advantage times weight; None where advantages play no part
    entropy               float32[C]     of the policy as the update that ran the sequence found it
                                         (nats); NaN where it was not asked
    alternative_ids       int32[C, K]    its likeliest tokens, the likeliest first; -1 likewise
    alternative_logprobs  float32[C, K]  and their log-probs; NaN likewise. None without both
    """

    student_logprobs: NDArray[np.float32]
    weights: NDArray[np.float32]
    credit: NDArray[np.float32] | None
    entropy: NDArray[np.float32]
    alternative_ids: NDArray[np.int32] | None = None
    alternative_logprobs: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """What this rank saw of the policy's distributions: entropies [C], and [C, K] tokens with
    their log-probs; 0 where another rank runs the sequence, or none."""

    entropies: NDArray[np.float32]
    ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]

    @classmethod
    def of(cls, count: int, width: int) -> _Seen:
        """Nothing seen of `count` places, with `width` tokens at each."""
        shape = (count, width)
        return cls(np.zeros(count, np.float32), np.zeros(shape, np.int32), np.zeros(shape, "f4"))

    @property
    def width(self) -> int:
        """How many tokens are kept at each place."""
        return self.ids.shape[1]

    def put(self, places: Indices, found: Distribution) -> None:
        """Keep what was seen at these places."""
        self.entropies[places] = found.entropies.cpu().numpy()
        if self.width:
            self.ids[places] = found.top_ids.cpu().numpy()
            self.logprobs[places] = found.top_logprobs.cpu().numpy()

    def of_all_ranks(
        self, run: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32] | None, NDArray[np.float32] | None]:
        """The same of all ranks together, blanked where no sequence was `run`."""
        entropies = reduced(self.entropies)
        entropies[~run] = np.nan
        if not self.width:
            return entropies, None, None
        ids, logprobs = reduced(self.ids), reduced(self.logprobs)
        ids[~run], logprobs[~run] = -1, np.nan
        return entropies, ids, logprobs


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
        steps: int | None = None,
        max_tokens: int | None = None,
        start_path: str | Path | None = None,
        alternatives: int = 0,
    ) -> None:
        """Load the policy. `temperature` is the one rollouts are sampled at.

        `seed` draws the minibatches when a batch is split into several updates. `steps` is the
        length of the run and `max_tokens` the longest completion, which some settings of an
        algorithm are relative to. `start_path` holds the weights the run started from, if
        they are not those of `model_path`. `alternatives` of the policy's likeliest tokens at each
        place are among the streams. Raises ModelError when a folder holds no usable
        model, AlgorithmError when the algorithm needs a length that is not given.
        """
        torch.manual_seed(seed)
        self.algorithm, self.spec, self.seed = algorithm, optimizer, seed
        self.steps, self.max_tokens, self.alternatives = steps, max_tokens, alternatives
        if algorithm.aggregation == "constant" and max_tokens is None:
            raise AlgorithmError("algorithm.aggregation constant divides by max_tokens: give it")
        try:
            mix_at(algorithm, 0, steps)
        except ValueError as error:
            raise AlgorithmError(f"algorithm.{error}") from error
        self.policy = Policy(model_path, dtype=dtype, device=device, trainable=True)
        self.masters = Masters(self.policy)
        self.scorer = Scorer(
            self.policy, temperature=temperature, microbatch_tokens=optimizer.microbatch_tokens
        )
        first = self.policy if start_path is None else Policy(start_path, dtype=dtype, device="cpu")
        self.first = {name: _aside(weight, self.policy) for name, weight in first.weights()}
        self.optimizer = AdamW(self.masters, optimizer)

    def learn(self, batch: Batch, step: int) -> dict[str, float]:
        """Take step `step` (from 0) on `batch`; returns its metrics. See `learn_with_streams`."""
        return self.learn_with_streams(batch, step)[0]

    def learn_with_streams(self, batch: Batch, step: int) -> tuple[dict[str, float], Streams]:
        """Take step `step` (from 0) on `batch`; returns metrics and per-token streams.

        Every rank is given the whole batch. Sequences that cannot move the policy are not run.
        Metrics are those of `Sums.means`, and grad_norm (before clipping; of the last update),
        learning_rate, mix, sequences, tokens, completion_tokens, updates, zero_advantage_share (of
        the sequences) and taught_share (of those for which the teacher's word counts).

        Raises BatchError when the batch is malformed or holds a non-finite number,
        AlgorithmError when it lacks what the algorithm reads, and LearningError when loss or
        gradient is not finite or exploded; the weights are then those before that update.
        """
        check(batch)
        require(self.algorithm, batch)
        rate = self.optimizer.warm_up(step)
        count = len(batch.engine_logprobs)
        student = np.zeros(count, dtype=np.float32)
        factors = np.zeros(count, dtype=np.float32)
        seen = _Seen.of(count, min(self.alternatives, len(self.policy.head.weight)))
        sums, norm = Sums(), 0.0

        asked = with_gradient(self.algorithm, batch.advantages, batch.is_taught)
        if not asked.any():
            # Nothing to learn; a few are run all the same, so that the step can be looked at.
            asked[_spread(np.arange(len(asked)))] = True
        minibatches = self._minibatches(len(asked), step)
        start = self._start_logprobs(batch, np.flatnonzero(asked))
        old: NDArray[Any] | None = None
        if len(minibatches) > 1:
            # Several updates move the policy under its own feet: the ratio needs a fixed base.
            old = self._score(batch, np.flatnonzero(asked))
        for sequences in minibatches:
            streams = (student, factors, seen, sums)
            loss = self._accumulate(batch, sequences, asked, old, start, step, streams)
            norm = self.optimizer.update(step, loss)

        lengths = batch.completion_lengths
        student, factors = reduced(student), reduced(factors)
        run_through = np.repeat(asked, lengths)
        student[~run_through], factors[~run_through] = np.nan, 1.0
        entropy, ids, best = seen.of_all_ranks(run_through)
        measured = ~np.isnan(start) & run_through
        if rank() == 0:
            sums.anchor(*(torch.from_numpy(values[measured]) for values in (student, start)))
        metrics = sums.means(len(minibatches)) | {
            "grad_norm": norm,
            "learning_rate": rate,
            "mix": mix_at(self.algorithm, step, self.steps),
            "sequences": float(len(asked)),
            "tokens": float(len(batch.tokens)),
            "completion_tokens": float(count),
            "updates": float(len(minibatches)),
            "zero_advantage_share": float((batch.advantages == 0).mean()),
        }
        if batch.teacher_logprobs is not None:
            # Evidence for a completion without advantage would move nothing: it is not asked for.
            reads = (
                batch.advantages != 0 if isinstance(self.algorithm, Rlsd) else np.ones_like(asked)
            )
            metrics["taught_share"] = float(batch.is_taught[reads].mean()) if reads.any() else 1.0
        credit = None
        if isinstance(self.algorithm, PolicyGradient):
            credit = factors * np.repeat(batch.advantages, lengths)
        return metrics, Streams(student, factors, credit, entropy, ids, best)

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

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything but the published weights that a bit-for-bit resume needs.

        Tensors (masters, optimizer moments, RNG) and plain data.
        """
        tensors, updates = self.optimizer.state()
        tensors["rng.cpu"] = torch.get_rng_state()
        if self.policy.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.policy.device)
        return tensors, {"updates": updates}

    def restore(self, tensors: dict[str, Tensor], data: dict[str, Any]) -> None:
        """Continue from what `state` returned. Raises LearningError when it is of another model."""
        self.optimizer.restore(tensors, data["updates"])
        torch.set_rng_state(tensors["rng.cpu"].cpu())
        if "rng.cuda" in tensors and self.policy.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["rng.cuda"].cpu(), self.policy.device)

    def save(
        self,
        root: str | Path,
        *,
        step: int,
        cursor: dict[str, Any],
        keep: int,
        beside: Mapping[str, Tensor] | None = None,
    ) -> Checkpoint:
        """Write a checkpoint of `step` done steps, with the tensors of whoever else has a state
        `beside` it; for rank 0 alone. See checkpoint.save."""
        tensors, data = self.state()
        tensors |= beside or {}
        return checkpoint.save(
            root,
            step=step,
            policy=self.policy,
            tensors=tensors,
            data=data,
            cursor=cursor,
            keep=keep,
        )

    def resume(self, saved: Checkpoint) -> dict[str, Tensor]:
        """Continue from a checkpoint, bit for bit; all its tensors, those `beside` among them.

        Raises CheckpointError or LearningError.
        """
        tensors, data = saved.load()
        self.restore(tensors, data)
        return tensors

    def _minibatches(self, count: int, step: int) -> list[Indices]:
        """The sequences of each update: all in order, or a seeded shuffle dealt out."""
        updates = min(self.spec.updates_per_batch, count)
        if updates == 1:
            return [np.arange(count)]
        order = np.random.default_rng((self.seed, step)).permutation(count)
        # Sorted, so that the rollouts of one task stay neighbours and share their prompt.
        return [np.sort(part) for part in np.array_split(order, updates)]

    def _score(self, batch: Batch, sequences: Indices) -> NDArray[Any]:
        """float32[C]: log-probs of these sequences' tokens, shared among the ranks; 0 elsewhere."""
        own = sequences[shares(batch.lengths[sequences], world_size())[rank()]]
        return reduced(self.scorer.score(batch.tokens, batch.lengths, batch.prompt_lengths, own))

    def _start_logprobs(self, batch: Batch, asked: Indices) -> NDArray[Any]:
        """float32[C]: log-probs under the first weights; NaN where they are not known.

        Of every sequence that is run when they are part of the loss, of a few otherwise.
        """
        wanted = asked if self.algorithm.kl > 0 else _spread(asked)
        with self.masters.replaced(self.first):
            found = self._score(batch, wanted)
        known = np.zeros(len(batch.lengths), dtype=bool)
        known[wanted] = True
        found[~np.repeat(known, batch.completion_lengths)] = np.nan
        return found

    def _accumulate(
        self,
        batch: Batch,
        sequences: Indices,
        asked: NDArray[np.bool_],
        old: NDArray[Any] | None,
        start: NDArray[Any],
        step: int,
        streams: tuple[NDArray[np.float32], NDArray[np.float32], _Seen, Sums],
    ) -> float:
        """Gradients of this rank's share of one update; fills the streams; returns its loss."""
        student, factors, seen, sums = streams
        mix = mix_at(self.algorithm, step, self.steps)
        taught = batch.is_taught
        scales = self._scales(batch, sequences)
        lessons = self._scales(batch, sequences[taught[sequences]])
        per_token = {
            "advantages": np.repeat(batch.advantages, batch.completion_lengths),
            "taught": np.repeat(taught, batch.completion_lengths),
            "sequence": np.repeat(np.arange(len(taught)), batch.completion_lengths),
        }
        distils = isinstance(self.algorithm, Distillation) and self.algorithm.top_k > 0
        own = sequences[asked[sequences]]
        own = own[shares(batch.lengths[own], world_size())[rank()]]
        loss = 0.0
        for part in pack(
            batch.tokens,
            batch.lengths,
            batch.prompt_lengths,
            budget=self.spec.microbatch_tokens,
            sequences=own,
        ):
            ids = self._at(batch.top_ids, part) if distils else None
            logprobs, distribution = self.policy.completion_logprobs(
                part, self.scorer.temperature, None if ids is None else ids.long(), seen.width
            )
            sampled = logprobs if ids is None else logprobs[:, 0]
            base = sampled.detach() if old is None else self._at(old, part)
            engine = self._at(batch.engine_logprobs, part)
            cap = self.algorithm.importance_cap
            tokens = Tokens(
                logprobs=sampled,
                old=base,
                importance=importance_weights(base, engine, cap=cap),
                scales=self._at(scales, part),
                lessons=self._at(lessons, part),
                teacher=self._at(batch.teacher_logprobs, part),
                contrast=self._at(batch.contrast_logprobs, part),
                span=self._at(batch.span_mask, part),
                candidates=None if ids is None else logprobs[:, 1:],
                top=self._at(batch.top_logprobs, part),
                start=self._at(start, part),
                **{name: self._at(values, part) for name, values in per_token.items()},
            )
            made = run(self.algorithm, tokens, mix)
            made.loss.backward()
            loss += made.loss.item()
            student[part.completions] = base.cpu().numpy()
            factors[part.completions] = made.factors.cpu().numpy()
            seen.put(part.completions, distribution)
            sums.count(
                tokens,
                made,
                entropies=distribution.entropies,
                engine_logprobs=engine,
                importance_cap=cap,
            )
        return loss

    def _scales(self, batch: Batch, sequences: Indices) -> NDArray[np.float64]:
        """float64[C]: weight of each token in a loss over these sequences; 0 elsewhere."""
        lengths = batch.completion_lengths
        chosen = np.zeros(len(lengths), dtype=bool)
        chosen[sequences] = True
        scales = np.zeros(len(batch.engine_logprobs))
        scales[np.repeat(chosen, lengths)] = token_scales(
            lengths[sequences], self.algorithm.aggregation, max_tokens=self.max_tokens
        )
        return scales

    def _at(self, values: NDArray[Any] | None, part: Pack) -> Any:
        """The flat values of a pack's completion tokens, on the policy's device."""
        if values is None:
            return None
        found = torch.from_numpy(values[part.completions]).to(self.policy.device)
        return found.to(wide_dtype(self.policy.head.weight)) if found.is_floating_point() else found


def _aside(weight: Tensor, policy: Policy) -> Tensor:
    """A copy that takes no memory of the policy's GPU, from where it is soon back."""
    kept = weight.detach().to("cpu", copy=True)
    return kept.pin_memory() if policy.device.type == "cuda" else kept


def _spread(sequences: Indices) -> Indices:
    """At most KL_SAMPLE of the sequences, evenly spread over them."""
    count = min(KL_SAMPLE, len(sequences))
    return sequences[np.linspace(0, len(sequences) - 1, count).round().astype(np.int64)]
