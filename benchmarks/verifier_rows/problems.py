"""Small programming problems with right and wrong solutions, in the forms that runners ask for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """A function, its solution, and calls with what they return."""

    name: str
    code: str
    cases: tuple[tuple[tuple[Any, ...], Any], ...]

    @property
    def asserts(self) -> list[str]:
        """One assert a case."""
        return [
            f"assert {self.name}({', '.join(map(repr, args))}) == {expect!r}"
            for args, expect in self.cases
        ]

    @property
    def check(self) -> str:
        """HumanEval's form."""
        lines = [
            f"    assert candidate({', '.join(map(repr, args))}) == {expect!r}"
            for args, expect in self.cases
        ]
        return "\n".join(("def check(candidate):", *lines, ""))


PROBLEMS = (
    Problem(
        "below_zero",
        "def below_zero(operations):\n    balance = 0\n    for operation in operations:\n"
        "        balance += operation\n        if balance < 0:\n            return True\n"
        "    return False\n",
        ((([1, 2, 3],), False), (([1, 2, -4, 5],), True), (([],), False)),
    ),
    Problem(
        "intersperse",
        "def intersperse(numbers, delimiter):\n    out = []\n    for n in numbers:\n"
        "        out += [n, delimiter]\n    return out[:-1]\n",
        ((([5, 6, 3, 2], 8), [5, 8, 6, 8, 3, 8, 2]), (([], 7), []), (([2, 2], 2), [2, 2, 2])),
    ),
    Problem(
        "is_palindrome",
        "def is_palindrome(text):\n    return text == text[::-1]\n",
        ((("aba",), True), (("aaaaa",), True), (("zbcd",), False)),
    ),
    Problem(
        "count_words",
        "from collections import Counter\ndef count_words(text):\n"
        "    return dict(Counter(text.split()))\n",
        ((("a b a",), {"a": 2, "b": 1}), (("",), {}), (("x y",), {"x": 1, "y": 1})),
    ),
    Problem(
        "primes",
        "def primes(n):\n    return [p for p in range(2, n)\n"
        "            if all(p % d for d in range(2, int(p ** 0.5) + 1))]\n",
        (((10,), [2, 3, 5, 7]), ((2,), []), ((20,), [2, 3, 5, 7, 11, 13, 17, 19])),
    ),
    Problem(
        "flatten",
        "def flatten(items):\n    out = []\n    for item in items:\n"
        "        out += flatten(item) if isinstance(item, list) else [item]\n    return out\n",
        ((([1, [2, [3]]],), [1, 2, 3]), (([],), []), (([[4], 5],), [4, 5])),
    ),
    Problem(
        "gcd",
        "def gcd(a, b):\n    while b:\n        a, b = b, a % b\n    return a\n",
        (((12, 18), 6), ((7, 13), 1), ((0, 5), 5)),
    ),
)


def solutions() -> Iterator[tuple[Problem, str]]:
    """Problems with code, now and then wrong, no two texts alike."""
    for number, problem in enumerate(cycle(PROBLEMS)):
        wrong = f"def {problem.name}(*args):\n    return None\n"
        yield problem, f"# {number}\n{wrong if number % 3 == 0 else problem.code}"
