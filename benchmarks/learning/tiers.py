"""The four tiers of the training loop in one process, for a model of a million parameters.

The loop (`services.pipeline.train`), the learner, the teacher and every credit rule are the
project's own; only the actors and the engine are left out, which at this size cost more than
the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.learning.arms import Control
from benchmarks.learning.controls import controlled
from benchmarks.learning.model import END
from benchmarks.learning.puzzles import Puzzle, judge
from benchmarks.learning.sampling import sample
from services.config import JobSpec
from services.pipeline import Judged, Rolled
from services.teacher import Teacher, TeacherOptions
from trainer.algorithm_spec import Ema
from trainer.batch import learnable
from trainer.ema import WeightAverage
from trainer.evidence import Evidence, taught_batch
from trainer.learner import Learner, Streams
from trainer.privileged import student_prompt
from trainer.records import Group, Rollout, Task
from trainer.rewards import judged_group


class LocalTiers:
    """Samples, judges, scores and learns; keeps the last step's groups and streams."""

    def __init__(
        self,
        job: JobSpec,
        folder: Path,
        puzzles: Mapping[str, Puzzle],
        control: Control | None,
    ) -> None:
        """`puzzles` by task id; `folder` holds the policy that training starts from."""
        self._job, self._puzzles = job, puzzles
        self._control: Control | None = control
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.learner = Learner(
            folder,
            algorithm=job.algorithm,
            optimizer=job.optimizer,
            dtype="float32",
            temperature=job.sampling.temperature,
            seed=job.seed,
            steps=job.steps,
            max_tokens=job.sampling.max_tokens,
        )
        self._engine: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self._teacher = (
            Teacher(TeacherOptions.of(job, model_path=folder, policy_path=folder))
            if job.has_teacher
            else None
        )
        lesson = getattr(job.algorithm, "teacher", None)
        self._average = WeightAverage(lesson.ema) if isinstance(lesson, Ema) else None
        self._generator = torch.Generator().manual_seed(job.seed)
        self._draw = np.random.default_rng(job.seed)
        self._version = 0
        self._pending: list[tuple[Task, int, asyncio.Future[Rolled]]] = []
        self.groups: list[Group] = []
        self.streams: Streams | None = None

    async def generate(self, task: Task, count: int) -> Rolled:
        """Sample a task's completions, together with those of every task asked at this moment."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Rolled] = loop.create_future()
        if not self._pending:
            loop.call_soon(self._flush)
        self._pending.append((task, count, answer))
        return await answer

    def _flush(self) -> None:
        asked, self._pending = self._pending, []
        rollouts = iter(self.sample([task for task, count, _ in asked for _ in range(count)]))
        for task, count, answer in asked:
            own = tuple(next(rollouts) for _ in range(count))
            tokens = sum(len(rollout.completion_ids) for rollout in own)
            answer.set_result(Rolled(task, own, self._version, tokens))

    def sample(
        self, tasks: Sequence[Task], generator: torch.Generator | None = None
    ) -> list[Rollout]:
        """One completion of each task under the policy as it is now."""
        prompts = [student_prompt(task, self.tokenizer) for task in tasks]
        end = self.tokenizer.convert_tokens_to_ids(END)
        outputs = sample(
            self._engine,
            prompts,
            max_tokens=self._job.sampling.max_tokens,
            temperature=self._job.sampling.temperature,
            end=end,
            generator=generator or self._generator,
        )
        return [
            Rollout(
                prompt_ids=prompt,
                completion_ids=ids,
                logprobs=logprobs,
                text=self.tokenizer.decode(ids, skip_special_tokens=True),
                version=self._version,
                finish_reason="stop" if ids[-1] == end else "length",
            )
            for prompt, (ids, logprobs) in zip(prompts, outputs, strict=True)
        ]

    async def verify(self, rolled: Rolled) -> Judged:
        """Judge a task's completions by its puzzle."""
        puzzle = self._puzzles[rolled.task.id]
        verdicts = tuple(judge(puzzle, rollout.text) for rollout in rolled.rollouts)
        return Judged(
            rolled,
            verdicts,
            tuple(verdict.score for verdict in verdicts),
            tuple(verdict.status for verdict in verdicts),
        )

    async def score(self, groups: Sequence[Judged]) -> list[list[Evidence | None]]:
        """What the teacher says of every completion."""
        assert self._teacher is not None, "only jobs with a teacher are scored"
        return self._teacher.evidence([self._group(judged) for judged in groups])[0]

    async def learn(
        self, groups: Sequence[Judged], evidence: list[list[Evidence | None]] | None, step: int
    ) -> dict[str, float]:
        """One step; the groups and streams stay for whoever measures credit."""
        self.groups = [self._group(judged) for judged in groups]
        flat = None
        if evidence is not None:
            flat = [evidence[g][r] for g, r in learnable(self.groups)]
        batch = taught_batch(self.groups, flat)
        with controlled(self._control, batch, self.learner, self._draw) as changed:
            metrics, self.streams = self.learner.learn_with_streams(changed, step)
        return metrics

    def _group(self, judged: Judged) -> Group:
        rolled, job = judged.rolled, self._job
        return judged_group(
            rolled.task, rolled.rollouts, judged.verdicts, job.algorithm, job.sampling.max_tokens
        )

    def puzzles_of(self, groups: Sequence[Group]) -> list[Puzzle]:
        """The puzzle of each group."""
        return [self._puzzles[group.task.id] for group in groups]

    async def publish(self, version: int, *, to_teacher: bool) -> dict[str, float]:
        """Copy the learner's weights to the sampler, and to the teacher when it is due."""
        self._version = version
        weights = dict(self.learner.weights())
        with torch.no_grad():
            for name, parameter in self._engine.named_parameters():
                parameter.copy_(weights[name])
        if to_teacher and self._teacher is not None:
            taught = weights.items()
            self._teacher.take(taught if self._average is None else self._average.blend(taught))
        return {}

    async def checkpoint(self, step: int, cursor: Mapping[str, int]) -> str:
        """Nothing is kept: the runs take a minute."""
        return ""

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """A copy of the policy's weights."""
        return {name: value.numpy().copy() for name, value in self.learner.weights()}

    def use(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Sample under these weights from now on."""
        with torch.no_grad():
            for name, parameter in self._engine.named_parameters():
                parameter.copy_(torch.from_numpy(weights[name]))
