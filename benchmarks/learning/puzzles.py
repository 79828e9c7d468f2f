"""Seeded puzzles with a scratchpad, an answer, and an oracle for the first wrong token.

Three families, chosen for what the answer tells about the steps before it:

    chain    evaluate +, -, * from left to right modulo 7; the answer is the last value
    search   reach a target in two steps with given operations; the answer names the steps,
             so whoever knows it knows the right choice at every step (backward-solvable)
    parity   three short chains of which only odd or even is asked: the answer says next to
             nothing of the steps

Demonstrations, which a policy is warm-started on, hold slips: see `demonstrate`. All words of a
puzzle are single tokens. Pure Python; knows no model.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any, Literal

from trainer.records import Privileged, Task
from verifiers.verdict import Verdict

MODULUS = 7
STEPS = {"chain": 4, "search": 2, "parity": 2}
CHAINS = 3
"""Of a parity puzzle."""
CHOICES = 2
"""Operations that a search offers."""
SLIPS = {"chain": 0.2, "search": 0.2, "parity": 0.2}
"""How often a step of a demonstration writes a wrong value."""
SHORTCUTS = 0.15
"""Share of the demonstrations with a hint that refer to it."""
Family = Literal["chain", "search", "parity"]
FAMILIES: tuple[Family, ...] = ("chain", "search", "parity")
OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: (a + b) % MODULUS,
    "-": lambda a, b: (a - b) % MODULUS,
    "*": lambda a, b: (a * b) % MODULUS,
}
WORDS = (
    *(str(n) for n in range(MODULUS)),
    *OPERATIONS,
    *("=", ";", "answer", "odd", "even", "evaluate", "parity", "reach", "from", "by", "hint", ","),
)
"""The whole vocabulary, but for the model's special tokens."""


Operation = tuple[str, int]
Chain = tuple[int, tuple[Operation, ...]]
"""Where it starts, and its operations."""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A completion as somebody who slips would write it, and the hint that leads to it."""

    completion: tuple[str, ...]
    hint: tuple[str, ...]
    hinted: tuple[str, ...]
    """The completion of one who was given the hint: the same, or one that refers to it."""


@dataclass(frozen=True, slots=True)
class Puzzle:
    """A puzzle in words: its prompt, a right completion, and what a hint may say."""

    family: Family
    prompt: tuple[str, ...]
    answer: tuple[str, ...]
    completion: tuple[str, ...]
    completions: frozenset[tuple[str, ...]]
    """Every right completion: a search may have several."""
    hint: tuple[str, ...]
    chains: tuple[Chain, ...]
    """What is worked out in `completion`."""


def generate(family: Family, count: int, seed: int, exclude: set[tuple[str, ...]]) -> list[Puzzle]:
    """`count` distinct puzzles, the same for the same seed, none with a prompt of `exclude`."""
    draw = random.Random(f"{family} {seed}")
    seen = set(exclude)
    puzzles: list[Puzzle] = []
    while len(puzzles) < count:
        puzzle = _MAKERS[family](draw)
        if puzzle.prompt not in seen:
            seen.add(puzzle.prompt)
            puzzles.append(puzzle)
    return puzzles


def demonstrate(puzzle: Puzzle, draw: random.Random) -> Demonstration:
    """A worked completion with slips, each carried on from, and the hint that *it* ends at.

    The hint is that of the completion, not of the puzzle, so that a model of both prompt forms
    learns the chance of each step given how it ends: who is told the right answer then slips
    less, as far as the answer tells, and who is told a wrong one slips towards it. Now and then
    the completion with the hint refers to it: in a chain and in parity it skips the work.
    """
    words, values = _worked(puzzle.chains, lambda: draw.random() < SLIPS[puzzle.family], draw)
    answer = puzzle.answer if puzzle.family == "search" else _answer(puzzle.family, values)
    completion = (*words, "answer", *answer)
    hint = puzzle.hint if puzzle.family == "search" else answer
    if draw.random() >= SHORTCUTS:
        return Demonstration(completion, hint, completion)
    worked = completion if puzzle.family == "search" else ("answer", *answer)
    return Demonstration(completion, hint, ("hint", *worked))


def _operation(draw: random.Random) -> Operation:
    # Times 0 would forget everything before it, plus 0 and times 1 do nothing.
    sign = draw.choice(list(OPERATIONS))
    return sign, draw.randrange(2, MODULUS)


def _worked(
    chains: Sequence[Chain], slips: Callable[[], bool], draw: random.Random
) -> tuple[list[str], list[int]]:
    """The steps in words, and the value of each chain."""
    words: list[str] = []
    values: list[int] = []
    for value, operations in chains:
        words += [";"] if words else []
        words.append(str(value))
        for sign, operand in operations:
            value = OPERATIONS[sign](value, operand)
            if slips():
                value = (value + draw.randrange(1, MODULUS)) % MODULUS
            words += [sign, str(operand), "=", str(value)]
        values.append(value)
    return words, values


def _right(chains: Sequence[Chain]) -> tuple[list[str], list[int]]:
    return _worked(chains, lambda: False, random.Random())


def _answer(family: Family, values: Sequence[int]) -> tuple[str, ...]:
    if family == "parity":
        return tuple("odd" if value % 2 else "even" for value in values)
    return tuple(map(str, values))


def _drawn(draw: random.Random, steps: int) -> Chain:
    start = draw.randrange(MODULUS)
    return start, tuple(_operation(draw) for _ in range(steps))


def _asked(chain: Chain) -> list[str]:
    start, operations = chain
    return [str(start), *(word for sign, n in operations for word in (sign, str(n)))]


def _chain(draw: random.Random) -> Puzzle:
    chain = _drawn(draw, STEPS["chain"])
    return _single("chain", ["evaluate", *_asked(chain)], (chain,))


def _parity(draw: random.Random) -> Puzzle:
    chains = tuple(_drawn(draw, STEPS["parity"]) for _ in range(CHAINS))
    asked = [word for chain in chains for word in (",", *_asked(chain))]
    return _single("parity", ["parity", *asked[1:]], chains)


def _single(family: Family, prompt: list[str], chains: tuple[Chain, ...]) -> Puzzle:
    worked, values = _right(chains)
    answer = _answer(family, values)
    completion = (*worked, "answer", *answer)
    right = frozenset([completion])
    return Puzzle(family, tuple(prompt), answer, completion, right, answer, chains)


def _search(draw: random.Random) -> Puzzle:
    start = draw.randrange(MODULUS)
    choices: list[Operation] = []
    while len(choices) < CHOICES:
        operation = _operation(draw)
        if operation not in choices:
            choices.append(operation)
    path = tuple(draw.choice(choices) for _ in range(STEPS["search"]))
    target = _right([(start, path)])[1][0]
    every = [(start, steps) for steps in product(choices, repeat=len(path))]
    right = [(*words, "answer", str(target))
             for words, (value,) in map(_right, ([chain] for chain in every))
             if value == target]  # fmt: skip
    return Puzzle(
        "search",
        ("reach", str(target), "from", str(start), "by", *_offered(choices)),
        (str(target),),
        (*_right([(start, path)])[0], "answer", str(target)),
        # Who refers to the hint and then does the work is right too.
        frozenset((*right, *(("hint", *completion) for completion in right))),
        tuple(word for sign, n in reversed(path) for word in (sign, str(n))),
        ((start, path),),
    )


def _offered(choices: Sequence[Operation]) -> list[str]:
    return [word for sign, n in choices for word in (sign, str(n), ",")][:-1]


_MAKERS = {"chain": _chain, "search": _search, "parity": _parity}


def first_error(puzzle: Puzzle, words: Sequence[str]) -> int | None:
    """Index of the first word after which the completion cannot be right any more.

    None when it is right. A word is wrong when no right completion begins with the words up
    to and with it; one that ends too early is wrong at its length.
    """
    left = puzzle.completions
    for index, word in enumerate(words):
        left = frozenset(one for one in left if len(one) > index and one[index] == word)
        if not left:
            return index
    return None if tuple(words) in left else len(words)


def judge(puzzle: Puzzle, text: str) -> Verdict:
    """Right when the answer is right: for `search` every step too, else what follows the word
    `answer` alone. What was extracted is what a hint would have said of it.

    As with real tasks, a chain may reach the right answer by wrong steps.
    """
    words = text.split()
    _, found, said = text.rpartition("answer")
    if puzzle.family == "search":
        right, extracted = first_error(puzzle, words) is None, _hint_of(words)
    else:
        right, extracted = tuple(said.split()) == puzzle.answer and bool(found), said.strip()
    evidence = {"extracted": extracted if found else ""}
    return Verdict(1.0, "correct", evidence) if right else Verdict(0.0, "wrong", evidence)


def _hint_of(words: Sequence[str]) -> str:
    """The steps of a search, from the last to the first."""
    steps = [f"{sign} {n}" for sign, n in pairwise(words) if sign in OPERATIONS]
    return " ".join(reversed(steps))


def task(puzzle: Puzzle, number: int) -> Task:
    """The puzzle as a task of the trainer; its verifier is `judge`, by number."""
    message = {"role": "user", "content": " ".join(puzzle.prompt)}
    spec: dict[str, Any] = {"kind": "puzzle", "number": number}
    return Task(
        f"{puzzle.family}-{number}", (message,), spec, Privileged(answer=" ".join(puzzle.hint))
    )
