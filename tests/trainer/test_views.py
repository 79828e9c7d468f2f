"""Both views of a task under the real scorer: the same completion, and no evidence in no hint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from tests.tiny_model import make_tiny_model
from trainer.packing import pack
from trainer.policy import Policy
from trainer.privileged import TeacherView, student_prompt
from trainer.records import Privileged, Rollout, Task
from trainer.scorer import Scorer
from trainer.spec import PrivilegedSpec
from verifiers.verdict import Verdict

TASK = Task(
    "t",
    ({"role": "user", "content": "What is 3 x 4?"},),
    {"kind": "math", "answer": "12"},
    Privileged(answer="12", trace="3 x 4 = 12"),
)
COMPLETIONS = [np.array(ids, np.int32) for ids in ([7, 300, 9], [65, 66, 67, 68, 2], [5])]
VERDICTS = [Verdict(1.0, "correct"), Verdict(0.0, "wrong"), Verdict(1.0, "correct")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


def batch(prompts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pairs = list(zip(prompts, COMPLETIONS, strict=True))
    tokens = np.concatenate([part for pair in pairs for part in pair]).astype(np.int32)
    lengths = np.array([len(p) + len(c) for p, c in pairs], np.int32)
    return tokens, lengths, np.array([len(p) for p in prompts], np.int32)


def views(model: Path, spec: PrivilegedSpec) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The student's and the teacher's prompt of each completion."""
    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    own = student_prompt(TASK, tokenizer)
    rollouts = [
        Rollout(own, ids, np.zeros(len(ids), np.float32), f"text {n}", 0, "stop")
        for n, ids in enumerate(COMPLETIONS)
    ]
    seen = TeacherView(spec, tokenizer).of_group(TASK, rollouts, VERDICTS)
    return [own] * len(rollouts), [prompt.ids for prompt in seen if prompt is not None]


def evidence(model: Path, spec: PrivilegedSpec) -> np.ndarray:
    scorer = Scorer(Policy(model, dtype="float32"), temperature=0.7, microbatch_tokens=64)
    student, teacher = (scorer.score(*batch(prompts)) for prompts in views(model, spec))
    return teacher - student


@pytest.mark.parametrize(
    "spec",
    [
        PrivilegedSpec(kind="none"),
        PrivilegedSpec(kind="trace", template=""),
        PrivilegedSpec(kind="answer", template="{# nothing #}\n"),
    ],
)
def test_an_empty_hint_gives_no_evidence(model: Path, spec: PrivilegedSpec) -> None:
    assert np.abs(evidence(model, spec)).max() <= 1e-6


@pytest.mark.parametrize("kind", ["answer", "trace", "sibling"])
def test_a_hint_gives_evidence(model: Path, kind: Any) -> None:
    assert np.abs(evidence(model, PrivilegedSpec(kind=kind))).max() > 1e-3


@pytest.mark.parametrize("kind", ["answer", "trace", "sibling", "feedback", "none"])
def test_what_is_scored_is_the_sampled_tokens_byte_for_byte(model: Path, kind: Any) -> None:
    sampled = b"".join(ids.tobytes() for ids in COMPLETIONS)
    for prompts in views(model, PrivilegedSpec(kind=kind)):
        tokens, lengths, prompt_lengths = batch(prompts)
        cut = np.cumsum(lengths)[:-1]
        rows = zip(np.split(tokens, cut), prompt_lengths, strict=True)
        assert b"".join(row[n:].tobytes() for row, n in rows) == sampled
        packed = list(pack(tokens, lengths, prompt_lengths, budget=64))
        scored = np.concatenate([part.completions for part in packed])
        assert sorted(scored) == list(range(sum(map(len, COMPLETIONS))))
