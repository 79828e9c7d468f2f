"""Supervised warm start on both prompt forms, with and without the hint, until the policy is
right on a chosen share of puzzles and a hint helps it.

A departure from the paper, whose base model knows how to read a hint: a random one does not.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.learning.model import END, HINT_TEMPLATE, make_model
from benchmarks.learning.puzzles import Puzzle, demonstrate, judge, task
from benchmarks.learning.sampling import sample
from trainer.privileged import student_prompt, teacher_prompt
from trainer.records import Privileged
from trainer.spec import PrivilegedSpec

HINTED = PrivilegedSpec(kind="answer", template=HINT_TEMPLATE)
BATCH = 32
"""Puzzles of a step, each in both forms."""
LEARNING_RATE = 1e-3
EVALUATE_EVERY = 50
MAX_STEPS = 4000
IGNORED = -100


class WarmStartError(RuntimeError):
    """The policy did not reach the wanted accuracy."""


@dataclass(frozen=True, slots=True)
class Warmed:
    """What a warm start reached, on held-out puzzles, one completion each at temperature 1."""

    steps: int
    accuracy: float
    hinted: float


def warm_start(
    folder: Path,
    puzzles: Sequence[Puzzle],
    held_out: Sequence[Puzzle],
    *,
    accuracy: float,
    hinted: float,
    seed: int,
) -> Warmed:
    """Train a new model on demonstrations of the puzzles until its accuracy on `held_out` is
    `accuracy` without a hint and `hinted` with one; saves it in `folder`.

    Raises WarmStartError after 4,000 steps.
    """
    make_model(folder, seed=seed)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
    draw = random.Random(seed)
    reached = Warmed(0, 0.0, 0.0)
    for step in range(1, MAX_STEPS + 1):
        rows = [row for one in draw.sample(puzzles, BATCH) for row in _rows(one, draw, tokenizer)]
        ids, labels = _padded(rows)
        logits = model(input_ids=ids[:, :-1]).logits
        loss = cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % EVALUATE_EVERY == 0:
            found = [
                sampled_accuracy(model, tokenizer, held_out, seed=step, hinted=shown)
                for shown in (False, True)
            ]
            reached = Warmed(step, *found)
            if reached.accuracy >= accuracy and reached.hinted >= hinted:
                model.save_pretrained(folder)
                return reached
    raise WarmStartError(f"{reached} after {MAX_STEPS} steps, not {accuracy:.0%} and {hinted:.0%}")


def sampled_accuracy(
    model: Any, tokenizer: Any, puzzles: Sequence[Puzzle], *, seed: int, hinted: bool = False
) -> float:
    """Share of puzzles that one completion at temperature 1 solves."""
    prompts = [
        teacher_prompt(task(p, n), tokenizer, HINTED)
        if hinted
        else student_prompt(task(p, n), tokenizer)
        for n, p in enumerate(puzzles)
    ]
    outputs = sample(
        model,
        prompts,
        max_tokens=max(len(p.completion) for p in puzzles) + 4,
        temperature=1.0,
        end=tokenizer.convert_tokens_to_ids(END),
        generator=torch.Generator().manual_seed(seed),
    )
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids, _ in outputs]
    verdicts = [judge(p, text) for p, text in zip(puzzles, texts, strict=True)]
    return float(np.mean([verdict.score or 0.0 for verdict in verdicts]))


def _rows(puzzle: Puzzle, draw: random.Random, tokenizer: Any) -> list[tuple[list[int], list[int]]]:
    """The same demonstration without and with its hint."""
    shown = task(puzzle, 0)
    made = demonstrate(puzzle, draw)
    told = replace(shown, privileged=Privileged(answer=" ".join(made.hint)))
    pairs = (
        (student_prompt(shown, tokenizer), made.completion),
        (teacher_prompt(told, tokenizer, HINTED), made.hinted),
    )
    rows: list[tuple[list[int], list[int]]] = []
    for prompt, words in pairs:
        ids = tokenizer.convert_tokens_to_ids([*words, END])
        rows.append(([*prompt.tolist(), *ids], [IGNORED] * len(prompt) + ids))
    return rows


def _padded(rows: Sequence[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([row + [0] * (longest - len(row)) for row, _ in rows])
    labels = torch.tensor([row + [IGNORED] * (longest - len(row)) for _, row in rows])
    return ids, labels
