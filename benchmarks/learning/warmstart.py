"""Supervised warm start on both prompt forms, with and without the hint, until the policy is
right on a chosen share of puzzles.

A departure from the paper, whose base model knows how to read a hint: a random one does not.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.learning.model import END, HINT_TEMPLATE, make_model
from benchmarks.learning.puzzles import Puzzle, judge, task
from benchmarks.learning.sampling import sample
from trainer.privileged import student_prompt, teacher_prompt
from trainer.spec import PrivilegedSpec

HINTED = PrivilegedSpec(kind="answer", template=HINT_TEMPLATE)
BATCH = 64
LEARNING_RATE = 1e-3
EVALUATE_EVERY = 25
MAX_STEPS = 4000
IGNORED = -100


class WarmStartError(RuntimeError):
    """The policy did not reach the wanted accuracy."""


def warm_start(
    folder: Path,
    puzzles: Sequence[Puzzle],
    held_out: Sequence[Puzzle],
    *,
    accuracy: float,
    seed: int,
) -> tuple[Path, int]:
    """Train a new model on the puzzles' completions until its sampled accuracy without a hint on
    `held_out` is `accuracy`; saves it in `folder`. Returns the folder and the steps taken.

    Raises WarmStartError after 4,000 steps.
    """
    make_model(folder, seed=seed)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    rows = [row for number, p in enumerate(puzzles) for row in _rows(p, number, tokenizer)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
    draw = random.Random(seed)
    for step in range(1, MAX_STEPS + 1):
        ids, labels = _padded(draw.sample(rows, BATCH))
        logits = model(input_ids=ids[:, :-1]).logits
        loss = cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % EVALUATE_EVERY == 0:
            reached = sampled_accuracy(model, tokenizer, held_out, seed=step)
            if reached >= accuracy:
                model.save_pretrained(folder)
                return folder, step
    raise WarmStartError(f"{accuracy:.0%} was not reached in {MAX_STEPS} steps")


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


def _rows(puzzle: Puzzle, number: int, tokenizer: Any) -> list[tuple[list[int], list[int]]]:
    completion = tokenizer.encode(" ".join((*puzzle.completion, END)))
    shown = task(puzzle, number)
    prompts = (student_prompt(shown, tokenizer), teacher_prompt(shown, tokenizer, HINTED))
    return [
        ([*prompt.tolist(), *completion], [IGNORED] * len(prompt) + completion)
        for prompt in prompts
    ]


def _padded(rows: Sequence[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([row + [0] * (longest - len(row)) for row, _ in rows])
    labels = torch.tensor([row + [IGNORED] * (longest - len(row)) for _, row in rows])
    return ids, labels
