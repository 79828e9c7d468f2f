"""Seeded puzzles with a scratchpad, an answer, and an oracle for the first wrong token.

Three families, chosen for what the answer tells about the steps before it:

    chain    evaluate +, -, * from left to right modulo 7; the answer is the last value
    search   reach a target in three steps with given operations; the answer names the steps,
             so whoever knows it knows the right choice at every step (backward-solvable)
    parity   three short chains of which only odd or even is asked: the answer says next to
             nothing of the steps

All words of a puzzle are single tokens. Pure Python; knows no model.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from trainer.records import Privileged, Task
from verifiers.verdict import Verdict

MODULUS = 7
STEPS = {"chain": 5, "search": 3, "parity": 2}
CHAINS = 3
"""Of a parity puzzle."""
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


def _operation(draw: random.Random) -> tuple[str, int]:
    # Times 0 would forget everything before it, plus 0 and times 1 do nothing.
    sign = draw.choice(list(OPERATIONS))
    return sign, draw.randrange(2, MODULUS)


def _worked(start: int, operations: Sequence[tuple[str, int]]) -> tuple[list[str], int]:
    words: list[str] = []
    value = start
    for sign, operand in operations:
        after = OPERATIONS[sign](value, operand)
        words += [str(value), sign, str(operand), "=", str(after), ";"]
        value = after
    return words, value


def _drawn(draw: random.Random, steps: int) -> tuple[list[str], list[str], int]:
    """A chain: its words in the prompt, its worked steps, its value."""
    start = draw.randrange(MODULUS)
    operations = [_operation(draw) for _ in range(steps)]
    worked, value = _worked(start, operations)
    return [str(start), *(w for sign, n in operations for w in (sign, str(n)))], worked, value


def _chain(draw: random.Random) -> Puzzle:
    asked, worked, value = _drawn(draw, STEPS["chain"])
    return _single("chain", ["evaluate", *asked], worked, [str(value)])


def _parity(draw: random.Random) -> Puzzle:
    prompt, worked, answer = ["parity"], list[str](), list[str]()
    for _ in range(CHAINS):
        asked, steps, value = _drawn(draw, STEPS["parity"])
        prompt += [*asked, ","]
        worked += steps
        answer.append("odd" if value % 2 else "even")
    return _single("parity", prompt[:-1], worked, answer)


def _single(family: Family, prompt: list[str], worked: list[str], answer: list[str]) -> Puzzle:
    completion = (*worked, "answer", *answer)
    right = frozenset([completion])
    return Puzzle(family, tuple(prompt), tuple(answer), completion, right, tuple(answer))


def _search(draw: random.Random) -> Puzzle:
    start = draw.randrange(MODULUS)
    choices: list[tuple[str, int]] = []
    while len(choices) < 3:
        operation = _operation(draw)
        if operation not in choices:
            choices.append(operation)
    path = tuple(draw.choice(choices) for _ in range(STEPS["search"]))
    target = _worked(start, path)[1]

    def completion(steps: Sequence[tuple[str, int]]) -> tuple[str, ...]:
        return (*_worked(start, steps)[0], "answer", str(target))

    offered = [word for sign, n in choices for word in (sign, str(n), ",")][:-1]
    every = product(choices, repeat=len(path))
    return Puzzle(
        "search",
        ("reach", str(target), "from", str(start), "by", *offered),
        (str(target),),
        completion(path),
        frozenset(completion(steps) for steps in every if _worked(start, steps)[1] == target),
        tuple(word for sign, n in reversed(path) for word in (sign, str(n))),
    )


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
    `answer` alone.

    As with real tasks, a chain may reach the right answer by wrong steps.
    """
    words = text.split()
    _, found, said = text.rpartition("answer")
    evidence = {"extracted": said.strip() if found else ""}
    if puzzle.family == "search":
        right = first_error(puzzle, words) is None
    else:
        right = tuple(said.split()) == puzzle.answer and bool(found)
    return Verdict(1.0, "correct", evidence) if right else Verdict(0.0, "wrong", evidence)


def task(puzzle: Puzzle, number: int) -> Task:
    """The puzzle as a task of the trainer; its verifier is `judge`, by number."""
    message = {"role": "user", "content": " ".join(puzzle.prompt)}
    spec: dict[str, Any] = {"kind": "puzzle", "number": number}
    return Task(
        f"{puzzle.family}-{number}", (message,), spec, Privileged(answer=" ".join(puzzle.hint))
    )
