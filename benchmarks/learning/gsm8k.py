"""GRPO against RLSD on a real model: SmolLM2-135M-Instruct on easy GSM8K problems.

The service's own tiers: vLLM samples, sandboxed verifiers judge, teacher and learner run the
model, each in its own actor. Same tasks, same seeds. Every learned step becomes one line of
gsm8k.jsonl with its reward and the seconds of its phases, as soon as it is there. A job that
stands there whole is not run again; one that was stopped begins anew.
The problems are read from a folder beside the project and are not part of it.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray

from benchmarks.learning.real import ALGORITHMS, read_real
from benchmarks.learning.silence import Silence
from services.config import JobSpec
from services.pipeline import Judged, Sampled, train
from services.preparation import prepare
from services.tiers import RayTiers

HELD_OUT = 24
ASK = "Work step by step in a few short lines. End with a line '#### ' and the number.\n\n"


def easy(problems: Path) -> list[dict[str, Any]]:
    """Tasks of the problems that take at most two calculations, of a whole number below 100."""
    found: list[dict[str, Any]] = []
    for number, line in enumerate(problems.read_text().splitlines()):
        row = json.loads(line)
        worked, _, answer = row["answer"].partition("\n#### ")
        if (
            worked.count("<<") > 2
            or not re.fullmatch(r"\d\d?", answer)
            or len(row["question"]) > 240
        ):
            continue
        found.append(
            {
                "id": f"gsm8k-{number}",
                "messages": [{"role": "user", "content": ASK + row["question"]}],
                "verifier": {"kind": "math", "answer": answer},
                "privileged": {
                    "answer": answer,
                    "trace": re.sub(r"<<.*?>>", "", worked) + f"\n#### {answer}",
                },
            }
        )
    return found


def job_of(kind: str, seed: int, steps: int, folder: Path) -> JobSpec:
    """The job; both algorithms differ in their name and in who reads the solution alone."""
    job: dict[str, Any] = {
        "name": f"gsm8k-{kind}-{seed}",
        "seed": seed,
        "steps": steps,
        "model": {"path": "smollm2-135m-instruct", "max_length": 640},
        "tasks": {"train": str(folder / "train.jsonl"), "holdout": str(folder / "holdout.jsonl")},
        "algorithm": {"kind": kind},
        "sampling": {
            "group_size": 8,
            "groups_per_step": 4,
            "max_tokens": 96,
            "temperature": 0.6,
        },
        "optimizer": {"learning_rate": 1e-5, "microbatch_tokens": 2048},
        "evaluation": {"every": steps, "samples": 2},
        "engine": {"kv_cache_gib": 0.5, "max_sequences": 48},
        "tiers": {
            "rollout": {"cpus": 0.6},
            "trainer": {"cpus": 0.6},
            "teacher": {"cpus": 0.5},
            "verifier": {"cpus": 0.25},
        },
    }
    if kind == "rlsd":
        job["privileged"] = {"kind": "trace"}
    return JobSpec.model_validate(job)


class Lines(Silence):
    """A journal that writes one row a step and one an evaluation."""

    def __init__(self, file: Path, kind: str, seed: int, steps: int) -> None:
        self._file = file
        self._of = {"kind": kind, "seed": seed, "steps": steps}

    async def learned(
        self,
        step: int,
        sampled: Sampled,
        metrics: Mapping[str, float],
        seconds: Mapping[str, float],
    ) -> None:
        """Reward and seconds of a step."""
        row = {
            "step": step + 1,
            "reward": _share(sampled.groups),
            "seconds": {**sampled.seconds, **seconds},
            "contrast": sum(group.has_contrast for group in sampled.groups),
            "tokens": sum(group.rolled.tokens for group in sampled.groups),
            **{name: metrics.get(name) for name in ("entropy", "weight_mean", "leak_rise")},
        }
        self._write(row)

    async def evaluated(self, step: int, judged: Sequence[Judged]) -> None:
        """Held-out accuracy."""
        self._write({"step": step, "held_out": _share(judged)})

    def _write(self, row: Mapping[str, Any]) -> None:
        line = json.dumps({**self._of, **row})
        print(line, flush=True)
        with self._file.open("a") as file:
            file.write(line + "\n")


def _share(groups: Sequence[Judged]) -> float:
    scores = [score for group in groups for score in group.scores if score is not None]
    return sum(scores) / max(1, len(scores))


def run(results: Path, problems: Path, steps: int, seeds: int) -> None:
    """Run what is not done yet, one job after the other, on a Ray of our own."""
    tasks = easy(problems)
    for seed in range(seeds):
        for kind in ALGORITHMS:
            before = read_real(results)
            own = [row for row in before if (row["kind"], row["seed"]) == (kind, seed)]
            if any("held_out" in row and row["step"] == steps for row in own):
                continue
            results.write_text("".join(json.dumps(r) + "\n" for r in before if r not in own))
            with tempfile.TemporaryDirectory(prefix="strop-gsm8k-") as name:
                _job(job_of(kind, seed, steps, Path(name)), tasks, Path(name), results)


def _job(job: JobSpec, tasks: Sequence[Mapping[str, Any]], folder: Path, results: Path) -> None:
    for file, own in (("holdout", tasks[:HELD_OUT]), ("train", tasks[HELD_OUT:])):
        lines = [json.dumps(task) + "\n" for task in own]
        (folder / f"{file}.jsonl").write_text("".join(lines))
    ready = prepare(job)
    journal = Lines(results, job.algorithm.kind, job.seed, job.steps)
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        object_store_memory=1 << 30, _temp_dir=str(folder / "ray"),
    )  # fmt: skip
    try:

        async def whole() -> None:
            tiers = RayTiers(job, ready.model_path, folder / "job", ready.prompts)
            try:
                await tiers.start()
                await train(job, tiers, ready.tasks, ready.holdout, journal)
            finally:
                await tiers.stop()

        asyncio.run(whole())
    finally:
        ray.shutdown()
