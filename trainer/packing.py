"""Packing: sequences laid head to tail under a token budget, without padding.

Neighbouring sequences with the same prompt (the rollouts of one task) share its tokens:
a pack computes each distinct row once, and says which rows every sequence consists of.
Plain numpy; knows nothing of models. N rows, S sequences, C completion tokens of a pack.

The order of the sequences is kept and packs are filled greedily, so the packs of a run of
whole packs are the same packs again: equal sequences in equal order are always computed
in equal shapes, by whoever computes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pack:
    """Sequences that go through the model in one forward pass.

    tokens      int64[N]    token of each row
    positions   int64[N]    its position in its sequence
    lengths     int64[S]    prompt + completion tokens of each sequence
    rows        int64[sum(lengths)]  the rows each sequence consists of, head to tail
    places      int64[N]    where each row stands in `rows` (the first time)
    predictors  int64[C]    the row whose hidden state predicts each completion token
    targets     int64[C]    the completion tokens
    completions int64[C]    their indices in the flat completion arrays of the batch
    """

    tokens: Ints
    positions: Ints
    lengths: Ints
    rows: Ints
    places: Ints
    predictors: Ints
    targets: Ints
    completions: Ints

    @property
    def shares_prompts(self) -> bool:
        """Whether some row belongs to several sequences."""
        return len(self.rows) > len(self.tokens)


def offsets(lengths: NDArray[np.integer]) -> Ints:
    """int64[S + 1]: where each of the runs of these lengths starts, and where the last ends."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def check(
    tokens: NDArray[np.int32], lengths: NDArray[np.int32], prompt_lengths: NDArray[np.int32]
) -> None:
    """Refuse flat arrays that do not describe sequences; raises ValueError with the first fault."""
    if len(lengths) == 0 or len(lengths) != len(prompt_lengths):
        raise ValueError(f"{len(lengths)} lengths and {len(prompt_lengths)} prompt lengths")
    if int(np.sum(lengths)) != len(tokens):
        raise ValueError(
            f"lengths sum to {int(np.sum(lengths))}, but there are {len(tokens)} tokens"
        )
    faulty = np.flatnonzero((prompt_lengths < 1) | (lengths <= prompt_lengths))
    if len(faulty):
        s = int(faulty[0])
        raise ValueError(
            f"sequence {s} has {lengths[s]} tokens of which {prompt_lengths[s]} are its prompt: "
            "a prompt and a completion have at least one token each"
        )


def pack(
    tokens: NDArray[np.int32],
    lengths: NDArray[np.int32],
    prompt_lengths: NDArray[np.int32],
    *,
    budget: int,
    sequences: Sequence[int] | Ints | None = None,
) -> list[Pack]:
    """Lay `sequences` (indices; all, in order, when None) into packs of at most `budget` rows.

    `tokens` int32[N_total] with `lengths` and `prompt_lengths` int32[S_total], as in a
    Batch. A sequence longer than the budget gets a pack of its own. Raises ValueError when
    the arrays do not fit each other.
    """
    check(tokens, lengths, prompt_lengths)
    starts = offsets(lengths)
    ends = starts[:-1] + prompt_lengths
    order = range(len(lengths)) if sequences is None else [int(s) for s in sequences]

    plans: list[list[int]] = []
    filled, prompt = 0, np.empty(0, dtype=tokens.dtype)
    for s in order:
        own = tokens[starts[s] : ends[s]]
        completion = int(lengths[s] - prompt_lengths[s])
        cost = completion + (0 if np.array_equal(own, prompt) else len(own))
        if not plans or filled + cost > budget:
            plans.append([])
            filled, cost = 0, completion + len(own)
        plans[-1].append(s)
        filled, prompt = filled + cost, own
    completion_starts = offsets(lengths - prompt_lengths)
    return [_lay(plan, tokens, starts, ends, completion_starts) for plan in plans]


def _lay(
    plan: list[int], tokens: NDArray[np.int32], starts: Ints, ends: Ints, completion_starts: Ints
) -> Pack:
    pieces: list[NDArray[np.int32]] = []
    positions: list[Ints] = []
    rows: list[Ints] = []
    places: list[Ints] = []
    predictors: list[Ints] = []
    completions: list[Ints] = []
    prompt, prompt_rows = np.empty(0, dtype=tokens.dtype), np.empty(0, dtype=np.int64)
    count, placed = 0, 0
    for s in plan:
        own, completion = tokens[starts[s] : ends[s]], tokens[ends[s] : starts[s + 1]]
        if not np.array_equal(own, prompt):
            prompt, prompt_rows = own, np.arange(count, count + len(own))
            pieces.append(own)
            positions.append(np.arange(len(own)))
            places.append(np.arange(placed, placed + len(own)))
            count += len(own)
        completion_rows = np.arange(count, count + len(completion))
        pieces.append(completion)
        positions.append(np.arange(len(own), len(own) + len(completion)))
        places.append(np.arange(placed + len(own), placed + len(own) + len(completion)))
        count += len(completion)
        placed += len(own) + len(completion)
        rows += [prompt_rows, completion_rows]
        predictors += [prompt_rows[-1:], completion_rows[:-1]]
        first = int(completion_starts[s])
        completions.append(np.arange(first, first + len(completion)))
    return Pack(
        tokens=np.concatenate(pieces).astype(np.int64),
        positions=np.concatenate(positions),
        lengths=np.array([starts[s + 1] - starts[s] for s in plan], dtype=np.int64),
        rows=np.concatenate(rows),
        places=np.concatenate(places),
        predictors=np.concatenate(predictors),
        targets=np.concatenate([tokens[ends[s] : starts[s + 1]] for s in plan]).astype(np.int64),
        completions=np.concatenate(completions),
    )


def shares(lengths: NDArray[np.int32], workers: int) -> list[Ints]:
    """Split sequences among workers: contiguous runs with nearly equal numbers of tokens.

    Returns `workers` arrays of sequence indices; an array is empty when there are fewer
    sequences than workers.
    """
    middles = offsets(lengths)[:-1] + np.asarray(lengths) / 2
    owner = np.minimum((middles * workers / max(1, int(np.sum(lengths)))).astype(int), workers - 1)
    return [np.flatnonzero(owner == worker) for worker in range(workers)]
