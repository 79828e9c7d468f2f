"""A query in PostgreSQL's own words: tokens, cut as its lexer cuts them.

Where a string, a comment or a name ends decides what a query is, so this follows the
server's lexer (with standard_conforming_strings on) and refuses the few forms whose ends
depend on more: names and strings with Unicode escapes, escape strings in several pieces,
parameters. Pure and linear in time; knows no grammar beyond parentheses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from verifiers.sql_session import RefusedError

_BEGINNINGS = frozenset(("select", "with", "values", "table", "("))
_TOKEN = re.compile(
    r"""
    (?P<space> [ \t\n\r\f\v]+ | --[^\n\r]* )
    | (?P<comment> /\* )
    | (?P<unicode> [uU]&['"] )
    | (?P<escaped> [eE]'(?:[^'\\]|''|\\.)*' )
    | (?P<text> [bBxXnN]?'(?:[^']|'')*' )
    | (?P<quoted> "(?:[^"]|"")+" )
    | (?P<name> [A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]* )
    | (?P<number> [0-9]+ )
    | (?P<dollar> \$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$ )
    | (?P<mark> [^'"$\0] )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*|\*/")
_CONTINUED = re.compile(r"(?:[ \t\n\r\f\v]|--[^\n\r]*)*[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*)*'")
_UPPER = re.compile("[A-Z]+")

Kind = Literal["name", "quoted", "text", "number", "mark"]


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a query: names as the server folds them, in `depth` open parentheses."""

    kind: Kind
    text: str
    start: int
    end: int
    depth: int

    @property
    def named(self) -> bool:
        """Whether it is a name or a keyword."""
        return self.kind in ("name", "quoted")

    def says(self, *words: str) -> bool:
        """Whether it is one of these keywords or marks."""
        return self.kind in ("name", "mark") and self.text in words


def quoted(name: str) -> str:
    """A name as an identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str | None) -> str:
    """A text as a constant."""
    return "NULL" if text is None else "'" + text.replace("'", "''") + "'"


def single(sql: str) -> list[Token]:
    """The tokens of one SELECT, without semicolons at its end. Raises RefusedError."""
    found = list(_tokens(sql))
    while found and found[-1].says(";"):
        found.pop()
    if not found or not found[0].says(*_BEGINNINGS):
        raise RefusedError("a single SELECT is asked for")
    if any(token.says(";") for token in found):
        raise RefusedError("one statement is asked for, not several")
    if found[-1].depth or any(token.depth < 0 for token in found):
        raise RefusedError("its parentheses do not match")
    return found


def _tokens(sql: str) -> Iterator[Token]:
    position = depth = 0
    while position < len(sql):
        match = _TOKEN.match(sql, position)
        kind = match.lastgroup if match else None
        if match is None or kind is None:
            raise RefusedError(f"{sql[position : position + 20]!r} is not closed, or not SQL")
        start, position = match.span()
        text = match[0]
        match kind:
            case "space":
                continue
            case "comment":
                position = _comment_end(sql, position)
                continue
            case "unicode":
                raise RefusedError("names and strings with Unicode escapes are not read here")
            case "escaped" | "text":
                if kind == "escaped" and _CONTINUED.match(sql, position):
                    raise RefusedError("escape strings in several pieces are not read here")
                yield Token("text", text, start, position, depth)
            case "dollar":
                end = sql.find(text, position)
                if end < 0:
                    raise RefusedError(f"the string that {text} opens is not closed")
                position = end + len(text)
                yield Token("text", sql[start:position], start, position, depth)
            case "name":
                folded = _UPPER.sub(lambda upper: upper[0].lower(), text)
                yield Token("name", folded, start, position, depth)
            case "quoted":
                yield Token("quoted", text[1:-1].replace('""', '"'), start, position, depth)
            case "number":
                yield Token("number", text, start, position, depth)
            case _:
                depth -= text == ")"
                yield Token("mark", text, start, position, depth)
                depth += text == "("


def _comment_end(sql: str, position: int) -> int:
    open_comments = 1
    while open_comments:
        match = _COMMENT.search(sql, position)
        if match is None:
            raise RefusedError("a comment is not closed")
        open_comments += 1 if match[0] == "/*" else -1
        position = match.end()
    return position


def grouping(tokens: Sequence[Token], position: int, alias: str) -> int | None:
    """Where the GROUP BY list begins of the innermost SELECT around a position that knows
    the alias; None when there is none."""
    at = next((n for n, token in enumerate(tokens) if token.end > position), None)
    if at is None:
        return None
    depth = tokens[at].depth
    while depth >= 0:
        first, last = _level(tokens, at, depth)
        level = [token for token in tokens[first:last] if token.depth == depth]
        group = next(
            (b.end if c is None or not c.says("all", "distinct") else c.end
             for a, b, c in zip(level, level[1:], [*level[2:], None], strict=False)
             if a.says("group") and b.says("by")), None
        )  # fmt: skip
        if group is not None and any(token.named and token.text == alias for token in level):
            return group
        depth -= 1
    return None


def _level(tokens: Sequence[Token], at: int, depth: int) -> tuple[int, int]:
    """The range of tokens around one that parentheses or set operators at a depth enclose."""

    def ends(token: Token) -> bool:
        return token.depth < depth or (
            token.depth == depth and token.says("union", "intersect", "except")
        )

    first = last = at
    while first > 0 and not ends(tokens[first - 1]):
        first -= 1
    while last < len(tokens) and not ends(tokens[last]):
        last += 1
    return first, last
