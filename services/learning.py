"""The trainer tier: what each worker of the learner group does when it is told to.

In: references to judged groups and their evidence. Out: metrics, weight publications,
checkpoints and the traces of every step. The weights of a teacher that is the policy itself
are made and kept here, beside the policy's: a teacher that dies takes nothing along. Credit is
assigned in the learner; nothing here decides what a token is worth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoTokenizer

from services.histograms import CREDIT_BOUNDS, counted, flat
from services.trace_batch import trace_of
from services.trace_vocabulary import Vocabulary, has_vocabulary, write_vocabulary
from services.traces import write_step
from services.weights import Entry, Manifest, Publication, checksum, pack, unpack_verified
from trainer.adamw import LearningError
from trainer.algorithm_spec import AlgorithmSpec, Ema, Rlsd
from trainer.batch import BatchError, learnable
from trainer.checkpoint import Checkpoint, CheckpointError
from trainer.ema import WeightAverage
from trainer.evidence import Evidence, shortened_share, taught_batch
from trainer.leakage import LeakWatch
from trainer.learner import Learner
from trainer.pieces import pieces, special
from trainer.policy import Dtype
from trainer.ranks import rank
from trainer.records import Group, Rollout, Task
from trainer.rewards import judged_group
from trainer.scorer import Scorer
from trainer.spans import span_mask
from trainer.spec import OptimizerSpec

_TEACHER = "teacher."
"""Before the names of a teacher's weights in a checkpoint."""


@dataclass(frozen=True, slots=True)
class LearningOptions:
    """How every worker builds its learner, and where rank 0 keeps things."""

    model_path: str
    dtype: Dtype
    temperature: float
    max_tokens: int
    steps: int
    seed: int
    algorithm: AlgorithmSpec
    optimizer: OptimizerSpec
    canary_ids: tuple[int, ...]
    trace_folder: str
    checkpoint_folder: str
    checkpoints_kept: int
    alternatives: int = 0
    leak_patterns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupRefs:
    """A judged group on its way to the learner: the task and two references."""

    task: Task
    rollouts: Any
    verdicts: Any


class LearnerWorker:
    """One rank. Every method is called on every rank with the same arguments."""

    def __init__(self, options: LearningOptions) -> None:
        self._options = options
        self._first = rank() == 0
        self._tokenizer = AutoTokenizer.from_pretrained(options.model_path, trust_remote_code=False)
        self._learner = Learner(
            options.model_path,
            dtype=options.dtype,
            algorithm=options.algorithm,
            optimizer=options.optimizer,
            temperature=options.temperature,
            seed=options.seed,
            steps=options.steps,
            max_tokens=options.max_tokens,
            alternatives=options.alternatives,
        )
        self._leaks = LeakWatch(Path(options.trace_folder) / "leakage.json", options.leak_patterns)
        teacher = getattr(options.algorithm, "teacher", None)
        self._average = WeightAverage(teacher.ema) if isinstance(teacher, Ema) else None
        self._lesson: Publication | None = None
        self._packed = 0
        # The canary is read at temperature 1, as an engine reports its prompt log-probs.
        self._canary = Scorer(
            self._learner.policy,
            temperature=1.0,
            microbatch_tokens=options.optimizer.microbatch_tokens,
        )

    def ready(self) -> None:
        """Answers once the model is loaded."""

    def progress(self) -> int:
        """Grows with every microbatch and with every bucket of weights."""
        return self._learner.policy.passes + self._packed

    def learn(
        self, references: Sequence[GroupRefs], evidence: Sequence[Any] | None, step: int
    ) -> tuple[dict[str, float], str | None]:
        """Learn one batch and keep its trace; the metrics, and why the disk refused the trace.

        `evidence` are references to lists of groups' `Evidence`, in the order of the groups. A
        batch that cannot be learned is kept too, for `strop replay`; the error says where.
        """
        groups = [self._group(reference) for reference in references]
        judged = learnable(groups)
        seen: list[Evidence | None] | None = None
        if evidence is not None:
            said = [group for part in ray.get(list(evidence)) for group in part]
            seen = [said[g][r] for g, r in judged]
        spans = self._spans([groups[g].rollouts[r] for g, r in judged])
        batch = taught_batch(groups, seen, spans)
        trace = trace_of(step, groups, batch, seen)
        try:
            metrics, streams = self._learner.learn_with_streams(batch, step)
        except (LearningError, BatchError) as error:
            if not self._first:
                raise
            kept = write_step(self._options.trace_folder, trace)
            raise LearningError(
                f"{error}. The batch is kept: strop replay {kept.parent} --step {step}"
            ) from error
        if not self._first:
            return metrics, None
        if seen is not None:
            metrics["shortened_share"] = shortened_share(seen)
        best = streams.alternative_logprobs
        done = replace(
            trace,
            student_logprobs=streams.student_logprobs,
            entropy=streams.entropy,
            alternative_ids=streams.alternative_ids,
            alternative_logprobs=None if best is None else best.astype(np.float16),
            credit=streams.credit,
        )
        try:
            self._keep_vocabulary()
            write_step(self._options.trace_folder, done)
            if streams.credit is not None:
                metrics |= flat("credit_histogram", counted(streams.credit, CREDIT_BOUNDS))
            metrics |= self._leaks.metrics(groups)
        except OSError as error:
            return metrics, f"the trace of step {step + 1} cannot be written: {error}"
        return metrics, None

    def _keep_vocabulary(self) -> None:
        """Once for a job: what the tokens of its traces say."""
        if not has_vocabulary(self._options.trace_folder):
            found = Vocabulary(pieces(self._tokenizer), special(self._tokenizer))
            write_vocabulary(self._options.trace_folder, found)

    def _group(self, reference: GroupRefs) -> Group:
        rollouts, verdicts = ray.get([reference.rollouts, reference.verdicts])
        options = self._options
        return judged_group(
            reference.task, rollouts, verdicts, options.algorithm, options.max_tokens
        )

    def _spans(self, rollouts: Sequence[Rollout]) -> list[Any] | None:
        algorithm = self._options.algorithm
        if not isinstance(algorithm, Rlsd) or algorithm.span_tag is None:
            return None
        tag = algorithm.span_tag
        return [span_mask(r.prompt_ids, r.completion_ids, tag, self._decode) for r in rollouts]

    def _decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(
            ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )

    def score(
        self, prompts: Sequence[NDArray[np.int32]], completions: Sequence[NDArray[np.int32]]
    ) -> list[NDArray[np.float32]] | None:
        """float32[T] of each completion under its prompt, by the policy as it is (nats).

        No completion may be empty. Rank 0 does the work and answers.
        """
        if not self._first:
            return None
        pairs = list(zip(prompts, completions, strict=True))
        flat = self._learner.score(
            np.concatenate([part for pair in pairs for part in pair]).astype(np.int32),
            np.array([len(p) + len(c) for p, c in pairs], np.int32),
            np.array([len(p) for p in prompts], np.int32),
        )
        return np.split(flat, np.cumsum([len(c) for c in completions])[:-1])

    def publish(
        self, version: int, *, to_teacher: bool
    ) -> tuple[Publication, Publication | None] | None:
        """Put the weights into the object store; rank 0 answers.

        The policy's, and those that its teacher has from now on: with `to_teacher` this version
        or, for an averaged teacher, the average that takes it in. None for a teacher whose
        weights are not the policy's.
        """
        if not self._first:
            return None
        canary = self._options.canary_ids
        logprobs = tuple(float(x) for x in self._canary.logprobs_of(canary))
        policy = self._publication(version, self._learner.weights(), canary, logprobs)
        if to_teacher and (self._lesson is None or self._lesson.version < version):
            self._lesson = policy
            if self._average is not None:
                averaged = self._average.blend(self._learner.weights())
                self._lesson = self._taught(version, averaged)
        return policy, self._lesson

    def _taught(self, version: int, weights: Iterable[tuple[str, Tensor]]) -> Publication:
        dtype = self._learner.policy.dtype
        return self._publication(version, ((name, weight.to(dtype)) for name, weight in weights))

    def _publication(
        self,
        version: int,
        weights: Iterable[tuple[str, Tensor]],
        canary: tuple[int, ...] = (),
        logprobs: tuple[float, ...] = (),
    ) -> Publication:
        """Weights as they lie in the object store; they are gone when this process is."""
        entries: list[Entry] = []
        checksums: list[int] = []
        references: list[Any] = []
        for placed, bucket in pack(weights):
            entries += placed
            checksums.append(checksum(bucket))
            references.append(ray.put(bucket))
            self._packed += 1
        manifest = Manifest(version, tuple(entries), tuple(checksums), canary, logprobs)
        return Publication(manifest, tuple(references))

    def save(self, step: int, cursor: Mapping[str, int]) -> tuple[str | None, str | None] | None:
        """Write a checkpoint; rank 0 answers: its model folder, or why the disk refused it."""
        if not self._first:
            return None
        try:
            return str(self._saved(step, cursor).model), None
        except CheckpointError as error:
            return None, str(error)

    def _saved(self, step: int, cursor: Mapping[str, int]) -> Checkpoint:
        lesson, teacher = self._lesson, dict[str, Tensor]()
        if self._average is not None:
            teacher = self._average.state()
        elif lesson is not None and lesson.version != step:
            arrays: Iterator[NDArray[np.uint8]] = map(ray.get, lesson.buckets)
            teacher = dict(unpack_verified(lesson.manifest, arrays))
        return self._learner.save(
            self._options.checkpoint_folder,
            step=step,
            cursor={"tasks": dict(cursor), "lesson": None if lesson is None else lesson.version},
            keep=self._options.checkpoints_kept,
            beside={f"{_TEACHER}{name}": weight for name, weight in teacher.items()},
        )

    def resume(self, saved: Checkpoint) -> None:
        """Continue from a checkpoint that `save` wrote. Raises CheckpointError."""
        tensors = self._learner.resume(saved)
        version: int | None = saved.cursor["lesson"]
        if not self._first or version is None:
            return
        teacher = {
            name.removeprefix(_TEACHER): tensor
            for name, tensor in tensors.items()
            if name.startswith(_TEACHER)
        }
        if self._average is not None:
            self._average.restore(teacher)
        self._lesson = self._taught(
            version, teacher.items() if teacher else self._learner.weights()
        )

    def close(self) -> None:
        """Nothing outlives the process."""
