"""Traces with any text, tokens and verdicts, written as the learner and the journal write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from services.trace_vocabulary import Vocabulary, write_vocabulary
from services.traces import StepTrace, write_step
from trainer.records import Group, Privileged, Rollout, Task
from verifiers.verdict import Verdict

Piece = str | bytes
END = "<|im_end|>"


@dataclass(frozen=True)
class Told:
    """A completion by its tokens, and what was said of it. `special` tokens are not in its text."""

    pieces: Sequence[Piece]
    verdict: Verdict
    advantage: float = -1.0
    special: Sequence[str] = (END,)

    @property
    def text(self) -> str:
        kept = [piece for piece in self.pieces if piece not in self.special]
        raw = [piece.encode() if isinstance(piece, str) else piece for piece in kept]
        return b"".join(raw).decode(errors="replace")


@dataclass(frozen=True)
class Asked:
    """A task and its completions."""

    told: Sequence[Told]
    id: str = "task"
    question: str = "What is 3 × 4?"
    verifier: Mapping[str, Any] = field(default_factory=lambda: {"kind": "math", "answer": "12"})
    turn: str = "The right answer is 12."


def write(folder: Path, step: int, asked: Sequence[Asked], *, taught: bool = True) -> None:
    """One step's file (`step` counts from 1) and the vocabulary of all of its tokens.

    Streams are drawn from `step`; without `taught` there is no teacher, as in GRPO.
    """
    ids: dict[bytes, int] = {}

    def number(piece: Piece) -> int:
        raw = piece.encode() if isinstance(piece, str) else piece
        return ids.setdefault(raw, len(ids))

    groups: list[Group] = []
    for one in asked:
        rollouts = [
            Rollout(
                prompt_ids=np.arange(5, dtype=np.int32),
                completion_ids=np.array([number(piece) for piece in told.pieces], dtype=np.int32),
                logprobs=np.full(len(told.pieces), -0.5, dtype=np.float32),
                text=told.text,
                version=step - 1,
                finish_reason="stop",
            )
            for told in one.told
        ]
        task = Task(
            id=one.id,
            messages=({"role": "user", "content": one.question},),
            verifier=dict(one.verifier),
            privileged=Privileged(answer="12"),
        )
        groups.append(
            Group(
                task=task,
                rollouts=tuple(rollouts),
                verdicts=tuple(told.verdict for told in one.told),
                advantages=np.array([told.advantage for told in one.told], dtype=np.float32),
            )
        )
    learned = [
        (one, told)
        for one in asked
        for told in one.told
        if told.verdict.score is not None and told.pieces
    ]
    kept = [told for _, told in learned]
    tokens = sum(len(told.pieces) for told in kept)
    rng = np.random.default_rng(step)
    student = -rng.exponential(0.6, tokens).astype(np.float32)
    gap = rng.normal(0, 0.4, tokens).astype(np.float32)
    advantages = np.concatenate(
        [np.full(len(told.pieces), told.advantage, dtype=np.float32) for told in kept]
    )
    weights = np.clip(np.exp(np.sign(advantages) * gap), 0.8, 1.2) if taught else np.ones(tokens)
    likeliest = np.stack(
        [
            np.concatenate([np.array([number(p) for p in told.pieces]) for told in kept]),
            rng.integers(0, len(ids), tokens),
        ],
        axis=1,
    ).astype(np.int32)
    teacher: dict[str, Any] = {}
    if taught:
        teacher = {
            "teacher_logprobs": np.minimum(student + gap, 0).astype(np.float32),
            "teacher_prompt_lengths": np.full(len(kept), 45, dtype=np.int32),
            "teacher_turns": tuple(one.turn for one, _ in learned),
        }
    special = frozenset(ids[s.encode()] for told in kept for s in told.special if s.encode() in ids)
    write_vocabulary(folder, Vocabulary({i: raw for raw, i in ids.items()}, special))
    write_step(
        folder,
        StepTrace(
            step - 1,
            tuple(groups),
            student_logprobs=student,
            entropy=rng.exponential(0.8, tokens).astype(np.float32),
            alternative_ids=likeliest,
            alternative_logprobs=np.tile(np.array([-0.25, -1.75]), (tokens, 1)).astype(np.float16),
            credit=(advantages * weights).astype(np.float32),
            **teacher,
        ),
    )


def pieces(text: str) -> list[str]:
    """A text cut at its words, as a tokenizer would: the blank belongs to what follows."""
    cut: list[str] = []
    for character in text:
        joins = cut and (
            (character.isalnum() and cut[-1][-1].isalnum())
            or (character.isalnum() and cut[-1] == " ")
        )
        if joins:
            cut[-1] += character
        else:
            cut.append(character)
    return cut
