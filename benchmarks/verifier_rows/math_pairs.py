"""Mathematical answers in pairs, labelled by how they were made, and judged by two graders.

Word problems have whole numbers and decimals in sentences; competition problems have
fractions, surds, polynomials, sets, intervals, tuples, matrices, equations, percentages,
bases and units. Half of the pairs are equal, the others differ in one place.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Pair:
    """A gold answer, a completion, and whether it is right."""

    family: str
    gold: str
    completion: str
    right: bool


SENTENCES = (
    "So she pays {} in all.\nThe answer is {}.",
    "{} of them are left.\n#### {}",
    "We add up and get {}, so the final answer is \\boxed{{{}}}.",
    "**Answer:** {0}",
)
NAMES = ("Monday", "even", "Anna", "north", "triangle", "no solution")


def _whole(rng: random.Random) -> tuple[str, str, str]:
    n = rng.randint(-50, 200_000)
    right = rng.choice((str(n), f"{n:,}", f"{n}.0", f"{n}.00"))
    return str(n), right, str(n + rng.choice((-1, 1, 10, 100)))


def _money(rng: random.Random) -> tuple[str, str, str]:
    cents = rng.randint(1, 99_999)
    gold = f"{cents / 100:.2f}"
    return gold, f"\\${gold}", f"\\${(cents + rng.choice((1, 10, 100))) / 100:.2f}"


def _fraction(rng: random.Random) -> tuple[str, str, str]:
    value = Fraction(rng.randint(-99, 99), rng.randint(2, 40))
    n, d, k = value.numerator, value.denominator, rng.randint(2, 5)
    right = rng.choice((f"\\dfrac{{{n}}}{{{d}}}", f"{n}/{d}", f"\\frac{{{k * n}}}{{{k * d}}}"))
    return f"\\frac{{{n}}}{{{d}}}", right, f"\\frac{{{n + rng.choice((-1, 1))}}}{{{d}}}"


def _close(rng: random.Random) -> tuple[str, str, str]:
    n, d = 10 ** rng.randint(25, 40) + rng.randint(0, 99), rng.choice((3, 7, 11, 13))
    gold = f"\\frac{{{n}}}{{{d}}}"
    return gold, f"{n}/{d}", f"\\frac{{{n + 1}}}{{{d}}}"


def _surd(rng: random.Random) -> tuple[str, str, str]:
    a, b, n = rng.randint(1, 9), rng.randint(2, 9), rng.choice((2, 3, 5, 6, 7, 10, 11))
    right = rng.choice((f"{a}+\\sqrt{{{b * b * n}}}", f"{b}\\sqrt{{{n}}}+{a}"))
    return f"{a}+{b}\\sqrt{{{n}}}", right, f"{a}-{b}\\sqrt{{{n}}}"


def _polynomial(rng: random.Random) -> tuple[str, str, str]:
    a, b = rng.randint(1, 9), rng.randint(1, 9)
    gold = f"x^2+{a + b}x+{a * b}"
    return gold, f"(x+{a})(x+{b})", f"(x+{a})(x-{b})"


def _percent(rng: random.Random) -> tuple[str, str, str]:
    n = rng.randint(1, 99)
    return f"{n}\\%", rng.choice((f"{n}%", f"\\frac{{{n}}}{{100}}")), str(n)


def _constant(rng: random.Random) -> tuple[str, str, str]:
    n = rng.randint(2, 9)
    return f"{n}-\\frac{{1}}{{e}}", f"{n}-1/e", f"{n}+1/e"


def _pi(rng: random.Random) -> tuple[str, str, str]:
    n, d = rng.randint(2, 30), rng.choice((1, 2, 3, 4))
    right = f"\\frac{{{n}}}{{{d}}}\\pi" if d > 1 else f"\\pi\\cdot {n}"
    return f"\\frac{{{n}\\pi}}{{{d}}}", right, f"\\frac{{{n}\\pi}}{{{d + 1}}}"


def _tuple(rng: random.Random) -> tuple[str, str, str]:
    a, b = rng.sample(range(-20, 20), 2)
    wrong = rng.choice((f"({b},{a})", f"\\{{{a},{b}\\}}", f"[{a},{b}]"))
    return f"({a},{b})", f"\\left( {a}, {b} \\right)", wrong


def _set(rng: random.Random) -> tuple[str, str, str]:
    a, b, c = rng.sample(range(-20, 20), 3)
    wrong = rng.choice((f"({a},{b},{c})", f"\\{{{a},{b}\\}}", f"\\{{{a},{b},{c + 50}\\}}"))
    return f"\\{{{a},{b},{c}\\}}", f"\\{{{c}, {a}, {b}\\}}", wrong


def _several(rng: random.Random) -> tuple[str, str, str]:
    a, b = rng.sample(range(1, 40), 2)
    return f"{a}, {b}", rng.choice((f"{b}, {a}", f"{b} \\text{{ and }} {a}")), f"{a}, {b + 50}"


def _interval(rng: random.Random) -> tuple[str, str, str]:
    a = rng.randint(-20, 20)
    b = a + rng.randint(1, 20)
    wrong = rng.choice((f"[{a},{b}]", f"({a},{b})", f"[{a},{b + 1})"))
    return f"[{a},{b})", f"\\left[{a}, {b}\\right)", wrong


def _union(rng: random.Random) -> tuple[str, str, str]:
    a = rng.randint(1, 9)
    gold = f"(-\\infty,-{a})\\cup({a},\\infty)"
    return gold, f"({a},\\infty)\\cup(-\\infty,-{a})", f"(-\\infty,-{a}]\\cup[{a},\\infty)"


def _matrix(rng: random.Random) -> tuple[str, str, str]:
    a, b, c, d = (rng.randint(-9, 9) for _ in range(4))
    form = "\\begin{{{0}}} {1} & {2} \\\\ {3} & {4} \\end{{{0}}}"
    gold = form.format("pmatrix", a, b, c, d)
    return gold, form.format("bmatrix", a, b, c, d), form.format("pmatrix", a, b, c, d + 1)


def _equation(rng: random.Random) -> tuple[str, str, str]:
    m, b = rng.randint(2, 9), rng.randint(1, 9)
    return f"y={m}x+{b}", rng.choice((f"y = {b} + {m}x", f"y-{m}x={b}")), f"y={m}x-{b}"


def _base(rng: random.Random) -> tuple[str, str, str]:
    digits = f"{rng.randint(2, 255):b}"
    return f"{digits}_2", f"{digits}_{{2}}", rng.choice((f"{digits}_3", digits))


def _unit(rng: random.Random) -> tuple[str, str, str]:
    n = rng.randint(2, 99)
    wrong = rng.choice((f"{n}\\text{{ cm}}^3", f"{n + 1}\\text{{ cm}}^2"))
    return f"{n}\\text{{ cm}}^2", rng.choice((f"{n} \\text{{ cm}}^2", str(n))), wrong


def _letter(rng: random.Random) -> tuple[str, str, str]:
    letter = rng.choice("ABCDE")
    wrong = rng.choice([other for other in "ABCDE" if other != letter])
    return f"\\text{{{letter}}}", f"\\text{{({letter})}}", f"\\text{{({wrong})}}"


def _case(rng: random.Random) -> tuple[str, str, str]:
    letter = rng.choice("ABCDE")
    return letter, f"\\text{{{letter}}}", letter.lower()


def _name(rng: random.Random) -> tuple[str, str, str]:
    name, other = rng.sample(NAMES, 2)
    return f"\\text{{{name}}}", f"\\text{{{name.lower()}}}", f"\\text{{{other}}}"


def _logarithm(rng: random.Random) -> tuple[str, str, str]:
    n, k = rng.choice((2, 3, 5, 7)), rng.randint(2, 4)
    return f"\\ln {n**k}", f"{k}\\ln {n}", f"{k + 1}\\ln {n}"


WORDS = (_whole, _money)
FORMULAS: tuple[Callable[[random.Random], tuple[str, str, str]], ...] = (
    *(_fraction, _close, _surd, _polynomial, _percent, _constant, _pi, _tuple, _set, _several),
    *(_interval, _union, _matrix, _equation, _base, _unit, _letter, _case, _name, _logarithm),
)


def pairs(number: int, seed: int = 0) -> Iterator[Pair]:
    """So many labelled pairs, every family in its turn."""
    rng = random.Random(seed)
    families = (*WORDS * 5, *FORMULAS)
    for index in range(number):
        family = families[index % len(families)]
        gold, right, wrong = family(rng)
        is_right = rng.random() < 0.5
        answer = right if is_right else wrong
        form = rng.choice(SENTENCES) if family in WORDS else "Thus it is $\\boxed{{{0}}}$."
        yield Pair(family.__name__[1:], gold, form.format(answer, answer), is_right)
