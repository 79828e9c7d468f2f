"""One run: a family of puzzles, an arm, a seed and a learning rate; measured along the way."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.learning.arms import ARMS
from benchmarks.learning.measures import error_auc, leak_rates, pass_at_k
from benchmarks.learning.model import HINT_TEMPLATE
from benchmarks.learning.puzzles import Family, Puzzle, generate, judge, task
from benchmarks.learning.silence import Silence
from benchmarks.learning.tiers import LocalTiers
from benchmarks.learning.warmstart import warm_start
from services.config import JobSpec
from services.pipeline import Sampled, train
from trainer.records import Privileged, Task

ANSWER_OF_SIBLING = "hint {{ sibling.split('answer')[-1].strip() }}"
SIBLING_TEMPLATES: dict[Family, str] = {
    "chain": ANSWER_OF_SIBLING,
    "parity": ANSWER_OF_SIBLING,
    "search": "{% set words = sibling.split() %}hint {{ words[-6] }} {{ words[-5] }} "
    "{{ words[-10] }} {{ words[-9] }}",
}
"""A right sibling as the hint it would be: the policy can read nothing else."""
LONGEST: dict[Family, int] = {"chain": 24, "search": 15, "parity": 38}
"""Most tokens of a completion; right ones have 20, 12 and 33 with the end token, and one more
where they refer to the hint."""
DEMONSTRATED: dict[Family, int] = {"chain": 8000, "search": 1500, "parity": 8000}
"""Puzzles of the warm start: there are not many more than 4,000 searches."""
TEST_SAMPLES = 8
VALIDATION, TEST = 192, 128


@dataclass(frozen=True, slots=True)
class Run:
    """What a run is called and fully determined by."""

    family: Family
    arm: str
    seed: int
    learning_rate: float
    steps: int

    @property
    def key(self) -> str:
        """A name that no other run has."""
        return f"{self.family}/{self.arm}/{self.seed}/{self.learning_rate:g}/{self.steps}"


@dataclass(frozen=True, slots=True)
class Budget:
    """What all arms have in common."""

    train: int = 2000
    start_accuracy: float = 0.2
    start_hinted: float = 0.6
    groups: int = 4
    group_size: int = 8
    evaluate_every: int = 10


class Recorder(Silence):
    """A journal that evaluates on validation puzzles and remembers the best weights."""

    def __init__(self, tiers: LocalTiers, puzzles: Sequence[Puzzle], every: int, seed: int) -> None:
        self._tiers, self._puzzles, self._every, self._seed = tiers, puzzles, every, seed
        self._tasks = [task(puzzle, n) for n, puzzle in enumerate(puzzles)]
        self.rows: list[dict[str, Any]] = []
        self.best = (-1.0, 0, tiers.weights())
        self._aucs: list[float] = []
        self._rewards: list[float] = []

    async def learned(
        self,
        step: int,
        sampled: Sampled,
        metrics: Mapping[str, float],
        seconds: Mapping[str, float],
    ) -> None:
        """Every so many steps: validation accuracy, and how well credit found the errors."""
        scores = [score for group in sampled.groups for score in group.scores if score is not None]
        self._rewards.append(float(np.mean(scores)))
        auc = self._credit_auc()
        if auc is not None:
            self._aucs.append(auc)
        if (step + 1) % self._every == 0:
            self.measure(step + 1, metrics)

    def measure(self, step: int, metrics: Mapping[str, float]) -> None:
        """One row of the curve; the first, of step 0, is the policy before training."""
        # The same draws at every step and for every arm: what differs is the policy.
        generator = torch.Generator().manual_seed(self._seed)
        rollouts = self._tiers.sample(self._tasks, generator)
        right = [
            judge(p, r.text).score or 0.0 for p, r in zip(self._puzzles, rollouts, strict=True)
        ]
        accuracy = float(np.mean(right))
        if accuracy > self.best[0]:
            self.best = (accuracy, step, self._tiers.weights())
        self.rows.append(
            {
                "step": step,
                "accuracy": accuracy,
                "reward": float(np.mean(self._rewards)) if self._rewards else None,
                "length": float(np.mean([len(r.completion_ids) for r in rollouts])),
                "error_auc": float(np.mean(self._aucs)) if self._aucs else None,
                **leak_rates(self._puzzles, rollouts),
                **{name: metrics.get(name) for name in ("entropy", "weight_mean", "grad_norm")},
            }
        )
        self._rewards, self._aucs = [], []

    def _credit_auc(self) -> float | None:
        streams, groups = self._tiers.streams, self._tiers.groups
        if streams is None or streams.credit is None or bool((streams.weights == 1).all()):
            return None
        lengths = [len(r.completion_ids) for group in groups for r in group.rollouts]
        return error_auc(groups, self._tiers.puzzles_of(groups), streams.weights, lengths)


@dataclass(frozen=True, slots=True)
class Puzzles:
    """The puzzles of a family: to train on, to choose by, to report on. None is in two sets."""

    train: list[Puzzle]
    validation: list[Puzzle]
    test: list[Puzzle]


def puzzles_of(family: Family, budget: Budget) -> Puzzles:
    """The same for every arm and seed."""
    test = generate(family, TEST, 1, set())
    validation = generate(family, VALIDATION, 2, {p.prompt for p in test})
    train_on = generate(family, budget.train, 3, {p.prompt for p in (*test, *validation)})
    return Puzzles(train_on, validation, test)


def start_of(family: Family, budget: Budget, cache: Path) -> tuple[Path, dict[str, Any]]:
    """The policy that every run of a family starts from, made once, and what it had reached.

    One for all seeds, as one base model is in practice: a seed draws everything after it.
    """
    folder = cache / family
    done = folder / "warm.json"
    if not done.is_file():
        puzzles = puzzles_of(family, budget)
        others = {p.prompt for p in (*puzzles.train, *puzzles.validation, *puzzles.test)}
        reached = warm_start(
            folder,
            generate(family, DEMONSTRATED[family], 4, others),
            puzzles.validation,
            accuracy=budget.start_accuracy,
            hinted=budget.start_hinted,
            seed=0,
        )
        done.write_text(json.dumps(asdict(reached)))
    return folder, json.loads(done.read_text())


def perform(
    run: Run, budget: Budget, cache: Path, *, validated_only: bool = False
) -> dict[str, Any]:
    """Train and measure one run; its result as one JSON-ready mapping.

    With `validated_only` the test puzzles are not looked at, and `final` and `chosen` are None.
    """
    started = time.monotonic()
    puzzles = puzzles_of(run.family, budget)
    start, reached = start_of(run.family, budget, cache)
    arm = ARMS[run.arm]
    tasks = [task(puzzle, n) for n, puzzle in enumerate(puzzles.train)]
    if arm.control == "shuffled_answers":
        tasks = shuffled_answers(tasks, run.seed)
    job = job_of(run, budget, start)
    known = {shown.id: puzzle for shown, puzzle in zip(tasks, puzzles.train, strict=True)}
    tiers = LocalTiers(job, start, known, arm.control)
    recorder = Recorder(tiers, puzzles.validation, budget.evaluate_every, run.seed)
    recorder.measure(0, {})
    if arm.algorithm is not None:
        asyncio.run(train(job, tiers, tasks, [], recorder))
    accuracy, step, weights = recorder.best
    final = chosen = None
    if not validated_only:
        final = tested(tiers, tiers.weights(), puzzles.test, run.seed)
        is_last = step == recorder.rows[-1]["step"]
        chosen = final if is_last else tested(tiers, weights, puzzles.test, run.seed)
    return {
        **asdict(run),
        "key": run.key,
        "curve": recorder.rows,
        "final": final,
        "chosen": chosen,
        "chosen_step": step,
        "validation": accuracy,
        "start": reached,
        "seconds": time.monotonic() - started,
    }


def shuffled_answers(tasks: Sequence[Task], seed: int) -> list[Task]:
    """The same tasks, each with the answer of another one, drawn without replacement."""
    order = np.random.default_rng(seed).permutation(len(tasks))
    changed: list[Task] = []
    for shown, other in zip(tasks, order, strict=True):
        answer = tasks[other].privileged.answer
        changed.append(Task(shown.id, shown.messages, shown.verifier, Privileged(answer=answer)))
    return changed


def job_of(run: Run, budget: Budget, model: Path) -> JobSpec:
    """The run as a training job, checked like any user's."""
    arm = ARMS[run.arm]
    job: dict[str, Any] = {
        "name": f"{run.family}-{run.arm}-{run.seed}",
        "seed": run.seed,
        "steps": round(run.steps * arm.steps),
        "model": {"path": str(model), "dtype": "float32", "max_length": 128},
        "tasks": {"train": "generated"},
        "algorithm": arm.algorithm or {"kind": "grpo"},
        "sampling": {
            "group_size": budget.group_size,
            "groups_per_step": round(budget.groups * arm.groups),
            "max_tokens": LONGEST[run.family],
        },
        "optimizer": {"learning_rate": run.learning_rate, "microbatch_tokens": 8192},
    }
    if arm.view is not None:
        template = HINT_TEMPLATE if arm.view == "answer" else SIBLING_TEMPLATES[run.family]
        job["privileged"] = {"kind": arm.view, "template": template}
    return JobSpec.model_validate(job)


def tested(
    tiers: LocalTiers, weights: Mapping[str, Any], puzzles: Sequence[Puzzle], seed: int
) -> dict[str, float]:
    """pass@1, pass@4, pass@8 and leak rates of these weights on the test puzzles."""
    tiers.use(weights)
    shown = [task(puzzle, n) for n, puzzle in enumerate(puzzles)]
    repeated = [one for one in shown for _ in range(TEST_SAMPLES)]
    owners = [puzzle for puzzle in puzzles for _ in range(TEST_SAMPLES)]
    rollouts = tiers.sample(repeated, torch.Generator().manual_seed(1000 + seed))
    right = [judge(p, r.text).score or 0.0 for p, r in zip(owners, rollouts, strict=True)]
    counts = np.asarray(right).reshape(len(puzzles), TEST_SAMPLES).sum(1).astype(int).tolist()
    passes = {
        f"pass@{k}": float(np.mean([pass_at_k(count, TEST_SAMPLES, k) for count in counts]))
        for k in (1, 4, 8)
    }
    return passes | leak_rates(owners, rollouts)
