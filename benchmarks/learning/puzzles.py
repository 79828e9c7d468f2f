"""Seeded puzzles with a scratchpad, an answer, and an oracle for the first wrong token.

Three families, chosen for what the answer tells about the steps before it:

    chain    evaluate +, -, * from left to right modulo 7; the answer is the last value
    search   reach a target in three steps with given operations; the answer names the steps,
             so whoever knows it knows the right choice at every step (backward-solvable)
    parity   a chain of which only odd or even is asked: the answer says next to nothing of
             the early steps

All words of a puzzle are single tokens. Pure Python; knows no model.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from trainer.records import Privileged, Task
from verifiers.verdict import Verdict

MODULUS = 7
STEPS = {"chain": 5, "search": 3, "parity": 4}
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
    start: int
    operations: tuple[tuple[str, int], ...]
    """What must be applied in order (chain, parity), or may be chosen from (search)."""
    answer: tuple[str, ...]
    completion: tuple[str, ...]
    target: int


def generate(family: Family, count: int, seed: int, exclude: set[tuple[str, ...]]) -> list[Puzzle]:
    """`count` distinct puzzles, the same for the same seed, none with a prompt of `exclude`."""
    draw = random.Random(f"{family} {seed}")
    seen = set(exclude)
    puzzles: list[Puzzle] = []
    while len(puzzles) < count:
        puzzle = _search(draw) if family == "search" else _chain(family, draw)
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


def _chain(family: Family, draw: random.Random) -> Puzzle:
    start = draw.randrange(MODULUS)
    operations = tuple(_operation(draw) for _ in range(STEPS[family]))
    words, value = _worked(start, operations)
    asked = "evaluate" if family == "chain" else "parity"
    prompt = (asked, str(start), *(word for sign, n in operations for word in (sign, str(n))))
    answer = (str(value),) if family == "chain" else ("odd" if value % 2 else "even",)
    return Puzzle(family, prompt, start, operations, answer, (*words, "answer", *answer), value)


def _search(draw: random.Random) -> Puzzle:
    start = draw.randrange(MODULUS)
    choices: list[tuple[str, int]] = []
    while len(choices) < 3:
        operation = _operation(draw)
        if operation not in choices:
            choices.append(operation)
    path = tuple(draw.choice(choices) for _ in range(STEPS["search"]))
    words, target = _worked(start, path)
    offered = [word for sign, n in choices for word in (sign, str(n), ",")][:-1]
    prompt = ("reach", str(target), "from", str(start), "by", *offered)
    answer = tuple(word for sign, n in path for word in (sign, str(n)))
    completion = (*words, "answer", str(target))
    return Puzzle("search", prompt, start, tuple(choices), answer, completion, target)


def first_error(puzzle: Puzzle, words: Sequence[str]) -> int | None:
    """Index of the first word after which the completion cannot be right any more.

    None when it is right. A word is wrong when no right completion begins with the words up
    to and with it; one that ends too early is wrong at its length.
    """
    allowed = _allowed(puzzle)
    said: list[str] = []
    for index, word in enumerate(words):
        if word not in allowed(said):
            return index
        said.append(word)
    return len(words) if allowed(said) else None


def _allowed(puzzle: Puzzle) -> Callable[[list[str]], set[str]]:
    """Which words may come next; the empty set at the end of a right completion."""
    if puzzle.family != "search":
        right = puzzle.completion
        return lambda said: {right[len(said)]} if len(said) < len(right) else set()
    right_ones = [
        (*_worked(puzzle.start, path)[0], "answer", str(puzzle.target))
        for path in product(puzzle.operations, repeat=STEPS["search"])
        if _worked(puzzle.start, path)[1] == puzzle.target
    ]

    def following(said: list[str]) -> set[str]:
        so_far = tuple(said)
        return {
            right[len(said)]
            for right in right_ones
            if len(right) > len(said) and right[: len(said)] == so_far
        }

    return following


def judge(puzzle: Puzzle, text: str) -> Verdict:
    """Right when the answer is right: for `search` every step too, else the last word alone.

    As with real tasks, a chain may reach the right answer by wrong steps.
    """
    words = text.split()
    if puzzle.family == "search":
        right = first_error(puzzle, words) is None
    else:
        right = words[-2:] == ["answer", *puzzle.answer]
    return Verdict(1.0, "correct") if right else Verdict(0.0, "wrong")


def hint(puzzle: Puzzle) -> str:
    """What the teacher is told: the answer; of a search the steps, from the last to the first."""
    if puzzle.family != "search":
        return puzzle.answer[0]
    pairs = [puzzle.answer[n : n + 2] for n in range(0, len(puzzle.answer), 2)]
    return " ".join(word for pair in reversed(pairs) for word in pair)


def task(puzzle: Puzzle, number: int) -> Task:
    """The puzzle as a task of the trainer; its verifier is `judge`, by number."""
    message = {"role": "user", "content": " ".join(puzzle.prompt)}
    spec: dict[str, Any] = {"kind": "puzzle", "number": number}
    return Task(f"{puzzle.family}-{number}", (message,), spec, Privileged(answer=hint(puzzle)))


def words_of(puzzles: Sequence[Puzzle]) -> Iterator[str]:
    """Every word of these puzzles, to check the vocabulary with."""
    for puzzle in puzzles:
        yield from (*puzzle.prompt, *puzzle.completion, *hint(puzzle).split())
