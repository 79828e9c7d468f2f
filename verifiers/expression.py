"""From mathematical notation to exact values: a small parser that runs anywhere.

Reads the part of LaTeX and plain text that most answers are written in (numbers, mixed
numbers, fractions, roots, powers, factorials, binomials, π, e, i, variables, named
functions) into `algebra.Value`. Depth, length and magnitude are bounded, so hostile text
costs microseconds. What it does not know, it refuses: it never guesses.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import lru_cache

from verifiers import algebra
from verifiers.algebra import AlgebraError, TooLargeError, Value

MAX_LENGTH = 2_000
MAX_DEPTH = 40
MAX_DIGITS = 1_000
MAX_FACTORIAL = 200

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)"
    r"|(?P<command>\\[a-zA-Z]+|\\[{}|])|(?P<letter>[a-zA-Z])|(?P<sign>[-+*/^(){}\[\]|!_%]))"
)
# fmt: off
_FUNCTIONS = frozenset((
    r"\sin", r"\cos", r"\tan", r"\cot", r"\sec", r"\csc", r"\arcsin", r"\arccos", r"\arctan",
    r"\sinh", r"\cosh", r"\tanh", r"\ln", r"\log", r"\lg", r"\exp",
))
_GREEK = frozenset((
    r"\alpha", r"\beta", r"\gamma", r"\delta", r"\epsilon", r"\varepsilon", r"\zeta", r"\eta",
    r"\theta", r"\vartheta", r"\iota", r"\kappa", r"\lambda", r"\mu", r"\nu", r"\xi", r"\rho",
    r"\sigma", r"\tau", r"\upsilon", r"\phi", r"\varphi", r"\chi", r"\psi", r"\omega",
    r"\Gamma", r"\Delta", r"\Theta", r"\Lambda", r"\Xi", r"\Sigma", r"\Phi", r"\Psi", r"\Omega",
))
# fmt: on


class UnreadableError(ValueError):
    """The text is not in the notation that this parser reads."""


@lru_cache(maxsize=4096)
def parse(text: str) -> Value:
    """The value of normalised notation.

    Raises UnreadableError for what this parser does not read, AlgebraError for what has no
    value (1/0) and TooLargeError for what is out of bounds.
    """
    if len(text) > MAX_LENGTH:
        raise TooLargeError(f"an expression of {len(text)} characters")
    return _Parser(text).parse()


def number(text: str) -> Fraction | None:
    """A plain decimal literal as a rational, None for anything else."""
    if not re.fullmatch(r"[-+]?(?:\d+(?:,\d{3})+(?:\.\d+)?|\d+\.?\d*|\.\d+)", text):
        return None
    return Fraction(text.replace(",", "")) if len(text) <= MAX_DIGITS else None


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        self.spaced: list[bool] = []
        self.next = 0
        self.depth = 0
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None or match.lastgroup is None:
                raise UnreadableError(f"unexpected {text[position : position + 12]!r}")
            self.tokens.append((match.lastgroup, match[match.lastgroup]))
            self.spaced.append(match.start(match.lastgroup) > position)
            position = match.end()

    def parse(self) -> Value:
        value = self.sum()
        if self.next < len(self.tokens):
            raise UnreadableError(f"unexpected {self.peek()!r}")
        return value

    def peek(self) -> str:
        return self.tokens[self.next][1] if self.next < len(self.tokens) else ""

    def kind(self) -> str:
        return self.tokens[self.next][0] if self.next < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        if not token:
            raise UnreadableError("the expression ends too early")
        self.next += 1
        return token

    def expect(self, token: str) -> None:
        if self.peek() != token:
            raise UnreadableError(f"{token!r} expected, found {self.peek()!r}")
        self.next += 1

    def sum(self) -> Value:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooLargeError(f"an expression nested more than {MAX_DEPTH} deep")
        value = self.signed()
        while self.peek() in ("+", "-"):
            value = value + self.signed() if self.take() == "+" else value - self.signed()
        self.depth -= 1
        return value

    def signed(self) -> Value:
        sign = 1
        while self.peek() in ("+", "-"):
            sign = -sign if self.take() == "-" else sign
        value = self.product()
        return value if sign > 0 else -value

    def product(self) -> Value:
        literal = self.kind() == "number"
        value = self.factor()
        while True:
            token = self.peek()
            if token == "*":
                self.take()
                value = value * self.operand()
            elif token == "/":
                self.take()
                value = value / self.operand()
            elif self.kind() == "number":
                value = self.mixed(value, literal)
            elif token and (self.kind() in ("letter", "command") or token in "({["):
                if token == "\\}":
                    return value
                if token == "\\frac" and literal and self.is_plain_fraction():
                    value = self.percent(value + self.base())
                else:
                    value = value * self.factor()
            else:
                return value
            literal = False

    def operand(self) -> Value:
        return self.signed_factor() if self.peek() in ("+", "-") else self.factor()

    def signed_factor(self) -> Value:
        negative = self.take() == "-"
        value = self.factor()
        return -value if negative else value

    def mixed(self, whole: Value, literal: bool) -> Value:
        """`1 1/2`: two literals side by side are a mixed number or nothing."""
        following = [token for _, token in self.tokens[self.next : self.next + 3]]
        if not (literal and len(following) == 3 and following[1] == "/" and following[2].isdigit()):
            raise UnreadableError("two numbers side by side")
        value = algebra.number(_literal(self.take()))
        self.take()
        return self.percent(whole + value / algebra.number(_literal(self.take())))

    def percent(self, value: Value) -> Value:
        """A mixed number is one number before its percent sign."""
        if self.peek() != "%":
            return value
        self.take()
        return value / algebra.number(100)

    def is_plain_fraction(self) -> bool:
        following = "".join(token for _, token in self.tokens[self.next : self.next + 7])
        return re.match(r"\\frac(?:\{\d+\}\{\d+\}|\d\d(?!\d))", following) is not None

    def factor(self) -> Value:
        value = self.base()
        while self.peek() in ("!", "%"):
            value = _factorial(value) if self.take() == "!" else value / algebra.number(100)
        if self.peek() == "^":
            self.take()
            value = algebra.power(value, self.exponent())
            while self.peek() in ("!", "%"):
                value = _factorial(value) if self.take() == "!" else value / algebra.number(100)
            if self.peek() == "^":
                raise UnreadableError("a double exponent")
        return value

    def exponent(self) -> Value:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooLargeError(f"an expression nested more than {MAX_DEPTH} deep")
        negative = False
        while self.peek() in ("+", "-"):
            negative = negative != (self.take() == "-")
        value = self.base()
        if self.peek() == "^":
            self.take()
            value = algebra.power(value, self.exponent())
        self.depth -= 1
        return -value if negative else value

    def base(self) -> Value:
        kind, token = self.kind(), self.take()
        if kind == "number":
            return algebra.number(_literal(token))
        if kind == "letter":
            return self.variable(token)
        if token in ("(", "{", "["):
            value = self.sum()
            self.expect({"(": ")", "{": "}", "[": "]"}[token])
            return value
        if token == "|":
            value = self.sum()
            self.expect("|")
            return algebra.absolute(value)
        if token == "\\frac":
            return self.argument() / self.argument()
        if token in ("\\binom", "\\dbinom", "\\tbinom"):
            return _binomial(self.argument(), self.argument())
        if token == "\\sqrt":
            return self.root()
        if token == "\\pi":
            return algebra.symbol("pi")
        if token in _GREEK:
            return self.variable(token)
        if token in _FUNCTIONS:
            return self.function(token)
        raise UnreadableError(f"unexpected {token!r}")

    def root(self) -> Value:
        if self.peek() != "[":
            return algebra.real_root(self.argument(), 2)
        self.take()
        degree = self.sum()
        self.expect("]")
        whole = degree.rational
        if whole is None or whole.denominator != 1 or whole < 1:
            return algebra.power(self.argument(), algebra.number(1) / degree)
        return algebra.real_root(self.argument(), int(whole))

    def variable(self, name: str) -> Value:
        if self.peek() == "_":
            self.take()
            return algebra.symbol(f"{name}_{self.subscript()}")
        return algebra.symbol(name)

    def subscript(self) -> str:
        token = self.take()
        if token != "{":
            return token
        inside: list[str] = []
        while self.peek() not in ("}", ""):
            inside.append(self.take())
        self.expect("}")
        return "".join(inside)

    def function(self, name: str) -> Value:
        if self.peek() == "_":
            self.take()
            name += f"_{self.subscript()}"
        exponent = None
        if self.peek() == "^":
            self.take()
            exponent = self.argument()
        if self.peek() in ("(", "{", "["):
            argument = self.base()
        else:  # \sin 2x: the factors that follow, up to the next operator
            argument = self.factor()
            while self.kind() == "letter" or self.peek() in ("\\pi", *_GREEK):
                argument = argument * self.factor()
        value = (
            algebra.power(algebra.symbol("e"), argument)
            if name == "\\exp"
            else algebra.opaque(name, argument)
        )
        return value if exponent is None else algebra.power(value, exponent)

    def argument(self) -> Value:
        """A braced group, or the single digit, letter or command that LaTeX takes instead."""
        if self.kind() == "number" and len(self.peek()) > 1 and self.peek().isdigit():
            token = self.peek()
            self.tokens[self.next] = ("number", token[1:])
            return algebra.number(int(token[0]))
        return self.base()


def _literal(token: str) -> Fraction:
    if len(token) > MAX_DIGITS:
        raise TooLargeError(f"a number of {len(token)} digits")
    mantissa, _, exponent = token.replace(",", "").lower().partition("e")
    if exponent and abs(int(exponent)) > MAX_DIGITS:
        raise TooLargeError(f"a number of about {exponent} digits")
    return Fraction(mantissa) * Fraction(10) ** int(exponent or 0)


def _natural(value: Value, bound: int) -> int | None:
    rational = value.rational
    if rational is None or rational.denominator != 1 or rational < 0:
        return None
    if rational > bound:
        raise TooLargeError(f"a factorial or binomial of {rational}")
    return int(rational)


def _factorial(value: Value) -> Value:
    n = _natural(value, MAX_FACTORIAL)
    return algebra.opaque("factorial", value) if n is None else algebra.number(math.factorial(n))


def _binomial(upper: Value, lower: Value) -> Value:
    n, k = _natural(upper, MAX_FACTORIAL), _natural(lower, MAX_FACTORIAL)
    if n is None or k is None:
        return algebra.opaque("binomial", upper, lower)
    return algebra.number(math.comb(n, k))


__all__ = ["AlgebraError", "TooLargeError", "UnreadableError", "number", "parse"]
