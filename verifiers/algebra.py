"""Exact arithmetic on closed forms: rationals, roots, π, e, i and variables.

A number or formula is a quotient of two polynomials with rational coefficients. Roots of
integers are broken into fractional powers of primes, so equal values have equal
polynomials and `equal` decides most pairs for good. What the ring cannot break down (a
sine, a root of a sum) becomes an opaque generator named after its argument; then
inequality is left undecided. Every operation is bounded. Knows nothing of notation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

MAX_TERMS = 200
MAX_BITS = 16_384
MAX_EXPONENT = 10_000
MAX_RADICAND = 10**9

Monomial = tuple[tuple[str, Fraction], ...]
Polynomial = dict[Monomial, Fraction]

ONE: Polynomial = {(): Fraction(1)}
IMAGINARY = "i"
PRIME = "#"  # "#3" is the prime 3, met only under a fractional exponent
OPAQUE = "@"


class AlgebraError(ArithmeticError):
    """A closed form that this ring does not hold (division by zero, a root it cannot take)."""


class TooLargeError(AlgebraError):
    """A value beyond the bounds of this ring, like 9^(9^9)."""


@dataclass(frozen=True, slots=True)
class Value:
    """numerator / denominator; the denominator is never the zero polynomial."""

    numerator: Polynomial
    denominator: Polynomial

    @property
    def rational(self) -> Fraction | None:
        """The value as a rational number, None when it is not one on its face."""
        top, bottom = _constant(self.numerator), _constant(self.denominator)
        return None if top is None or bottom is None else top / bottom

    @property
    def key(self) -> str:
        """A name that equal polynomials share; unequal names prove nothing."""
        return f"{_name(self.numerator)}/{_name(self.denominator)}"

    def generators(self) -> set[str]:
        """Variables, constants, primes and opaque parts that occur."""
        return {
            generator
            for polynomial in (self.numerator, self.denominator)
            for monomial in polynomial
            for generator, _ in monomial
        }

    def __add__(self, other: Value) -> Value:
        if self.denominator == other.denominator:
            return Value(_add(self.numerator, other.numerator), self.denominator)
        return Value(
            _add(
                _multiply(self.numerator, other.denominator),
                _multiply(other.numerator, self.denominator),
            ),
            _multiply(self.denominator, other.denominator),
        )

    def __neg__(self) -> Value:
        return Value({m: -c for m, c in self.numerator.items()}, self.denominator)

    def __sub__(self, other: Value) -> Value:
        return self + -other

    def __mul__(self, other: Value) -> Value:
        return Value(
            _multiply(self.numerator, other.numerator),
            _multiply(self.denominator, other.denominator),
        )

    def __truediv__(self, other: Value) -> Value:
        if not other.numerator:
            raise AlgebraError("division by zero")
        return Value(
            _multiply(self.numerator, other.denominator),
            _multiply(self.denominator, other.numerator),
        )


def number(value: Fraction | int) -> Value:
    """A rational number."""
    value = _bounded(Fraction(value))
    return Value({(): value} if value else {}, ONE)


def symbol(name: str) -> Value:
    """A variable, or one of the constants `pi`, `e` and `i`."""
    return Value({((name, Fraction(1)),): Fraction(1)}, ONE)


def opaque(function: str, *arguments: Value) -> Value:
    """A function the ring does not evaluate, equal to itself on equal arguments."""
    return symbol(f"{OPAQUE}{function}({';'.join(argument.key for argument in arguments)})")


def power(base: Value, exponent: Value) -> Value:
    """base ** exponent; an exponent that is no rational number gives an opaque value."""
    rational = exponent.rational
    if rational is None:
        turn = _half_turns(exponent) if base == symbol("e") else None
        return opaque("power", base, exponent) if turn is None else turn
    root = base if rational.denominator == 1 else _root(base, rational.denominator)
    return _integer_power(root, rational.numerator)


def real_root(base: Value, degree: int) -> Value:
    """The real root that a radical sign means: of a negative number when the degree is odd."""
    rational = base.rational
    if rational is not None and rational < 0 and degree % 2:
        return -power(-base, number(Fraction(1, degree)))
    return power(base, number(Fraction(1, degree)))


def absolute(value: Value) -> Value:
    """|value|; of a complex number its modulus, of what has variables an opaque value."""
    rational = value.rational
    if rational is not None:
        return number(abs(rational))
    divisor = _constant(value.denominator)
    if value.generators() != {IMAGINARY} or divisor is None:
        return opaque("abs", value)
    parts = [part / divisor for part in value.numerator.values()]  # a + bi
    return _root(number(sum((part * part for part in parts), Fraction(0))), 2)


def equal(left: Value, right: Value) -> bool | None:
    """Whether two closed forms are the same; None when the ring cannot tell."""
    if not (left - right).numerator:
        return True
    return (
        None
        if any(g.startswith(OPAQUE) for g in left.generators() | right.generators())
        else (False)
    )


def approximate(value: Value) -> float | None:
    """The value as a float, None when it has variables, i or opaque parts."""
    if any(g not in ("pi", "e") and not g.startswith(PRIME) for g in value.generators()):
        return None
    try:
        return _float(value.numerator) / _float(value.denominator)
    except (OverflowError, ZeroDivisionError):
        return None


def _float(polynomial: Polynomial) -> float:
    constants = {"pi": math.pi, "e": math.e}
    return math.fsum(
        float(coefficient)
        * math.prod(
            (constants[g] if g in constants else float(g[1:])) ** float(exponent)
            for g, exponent in monomial
        )
        for monomial, coefficient in polynomial.items()
    )


def _constant(polynomial: Polynomial) -> Fraction | None:
    if not polynomial:
        return Fraction(0)
    return polynomial.get(()) if len(polynomial) == 1 else None


def _name(polynomial: Polynomial) -> str:
    return "+".join(
        f"{coefficient}" + "".join(f"*{g}^{exponent}" for g, exponent in monomial)
        for monomial, coefficient in sorted(polynomial.items())
    )


def _bounded(value: Fraction) -> Fraction:
    if value.numerator.bit_length() > MAX_BITS or value.denominator.bit_length() > MAX_BITS:
        raise TooLargeError(f"a number of more than {MAX_BITS} bits")
    return value


def _add(left: Polynomial, right: Polynomial) -> Polynomial:
    total = dict(left)
    for monomial, coefficient in right.items():
        merged = _bounded(total.pop(monomial, Fraction(0)) + coefficient)
        if merged:
            total[monomial] = merged
    if len(total) > MAX_TERMS:
        raise TooLargeError(f"a formula of more than {MAX_TERMS} terms")
    return total


def _multiply(left: Polynomial, right: Polynomial) -> Polynomial:
    if len(left) * len(right) > MAX_TERMS * 10:
        raise TooLargeError(f"a product of {len(left)} by {len(right)} terms")
    product: Polynomial = {}
    for left_monomial, left_coefficient in left.items():
        for right_monomial, right_coefficient in right.items():
            factor, monomial = _reduce((*left_monomial, *right_monomial))
            term = _bounded(left_coefficient * right_coefficient * factor)
            product = _add(product, {monomial: term})
    return product


def _reduce(factors: tuple[tuple[str, Fraction], ...]) -> tuple[Fraction, Monomial]:
    """Merge equal generators; whole powers of primes and of i go to the coefficient."""
    exponents: dict[str, Fraction] = {}
    for generator, exponent in factors:
        exponents[generator] = exponents.get(generator, Fraction(0)) + exponent
    coefficient = Fraction(1)
    for generator, exponent in exponents.items():
        whole = math.floor(exponent)
        if generator.startswith(PRIME):
            coefficient *= Fraction(int(generator[1:])) ** whole
            exponents[generator] = exponent - whole
        elif generator == IMAGINARY:
            coefficient *= -1 if whole % 4 in (2, 3) else 1
            exponents[generator] = Fraction(whole % 2)
    return coefficient, tuple(sorted((g, e) for g, e in exponents.items() if e))


def _half_turns(exponent: Value) -> Value | None:
    """e^(i pi t) where t is a multiple of a quarter or a third; None for other exponents."""
    monomial = ((IMAGINARY, Fraction(1)), ("pi", Fraction(1)))
    divisor = _constant(exponent.denominator)
    if divisor is None or set(exponent.numerator) != {monomial}:
        return None
    turn = exponent.numerator[monomial] / divisor % 2
    unit = symbol(IMAGINARY)
    half, root = number(Fraction(1, 2)), Fraction(1, 2)
    steps = {
        Fraction(1, 2): unit,
        Fraction(1, 3): half + half * power(number(3), number(root)) * unit,
        Fraction(1, 4): half * power(number(2), number(root)) * (number(1) + unit),
        Fraction(1, 6): half * power(number(3), number(root)) + half * unit,
    }
    step = Fraction(1, turn.denominator) if turn.denominator > 1 else Fraction(1, 2)
    return _integer_power(steps[step], int(turn / step)) if step in steps else None


def _integer_power(base: Value, exponent: int) -> Value:
    if exponent < 0:
        return _integer_power(number(1) / base, -exponent)
    if exponent > MAX_EXPONENT:
        raise TooLargeError(f"an exponent of {exponent.bit_length()} bits")
    bits = max(
        (
            max(c.numerator.bit_length(), c.denominator.bit_length())
            for p in (base.numerator, base.denominator)
            for c in p.values()
        ),
        default=0,
    )
    if bits > 1 and bits * exponent > 2 * MAX_BITS:
        raise TooLargeError(f"a power of about {bits * exponent} bits")
    result, square = number(1), base
    while exponent:
        if exponent & 1:
            result *= square
        exponent >>= 1
        if exponent:
            square *= square
    return result


def _root(base: Value, degree: int) -> Value:
    """The principal root of one monomial over another; of anything else, an opaque value."""
    if not base.numerator:
        return base
    if len(base.numerator) > 1 or len(base.denominator) > 1 or degree > MAX_EXPONENT:
        return opaque(f"root{degree}", base)
    return _root_of_monomial(base.numerator, degree) / _root_of_monomial(base.denominator, degree)


def _root_of_monomial(polynomial: Polynomial, degree: int) -> Value:
    ((monomial, coefficient),) = polynomial.items()
    if any(
        g == IMAGINARY or (not g.startswith(PRIME) and g not in ("pi", "e") and exponent != 1)
        for g, exponent in monomial
    ):  # sqrt(x^2) is |x|, not x
        return opaque(f"root{degree}", Value(polynomial, ONE))
    sign = number(1)
    if coefficient < 0:
        if degree != 2 or any(
            not g.startswith(PRIME) and g not in ("pi", "e") for g, _ in monomial
        ):
            return opaque(f"root{degree}", Value(polynomial, ONE))
        sign = symbol(IMAGINARY)
    factors = [(g, exponent / degree) for g, exponent in monomial]
    for integer, direction in ((abs(coefficient.numerator), 1), (coefficient.denominator, -1)):
        factors += [
            (f"{PRIME}{prime}", Fraction(direction * count, degree))
            for prime, count in _factorize(integer)
        ]
    factor, reduced = _reduce(tuple(factors))
    return sign * Value({reduced: _bounded(factor)}, ONE)


@cache
def _small_primes() -> tuple[int, ...]:
    limit = math.isqrt(MAX_RADICAND) + 1
    sieve = bytearray([1]) * (limit + 1)
    for n in range(2, math.isqrt(limit) + 1):
        if sieve[n]:
            sieve[n * n :: n] = bytes(len(range(n * n, limit + 1, n)))
    return tuple(n for n in range(2, limit + 1) if sieve[n])


def _factorize(integer: int) -> list[tuple[int, int]]:
    root = math.isqrt(integer)
    if root * root == integer and integer > MAX_RADICAND:
        return [(prime, 2 * count) for prime, count in _factorize(root)]
    if integer > MAX_RADICAND:
        raise AlgebraError(f"the root of an integer of {integer.bit_length()} bits")
    factors: list[tuple[int, int]] = []
    for prime in _small_primes():
        if prime * prime > integer:
            break
        count = 0
        while integer % prime == 0:
            integer //= prime
            count += 1
        if count:
            factors.append((prime, count))
    if integer > 1:
        factors.append((integer, 1))
    return factors
