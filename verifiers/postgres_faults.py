"""What an error of PostgreSQL's says about a query, in the judge's terms.

Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

import psycopg

from verifiers.sql_session import QueryError, RefusedError, TooLargeError, TooSlowError

TOO_LARGE = "a row of more than 1 MiB:"
"""How the error begins that a query raises itself instead of sending such a row."""


class GroupingError(QueryError):
    """A column is not grouped by; `position` is where in the query it stands."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class MeaningError(QueryError):
    """The query has no meaning in this database: a name, a type or the grammar is wrong."""


class LostError(Exception):
    """The connection is gone."""


def fault(error: psycopg.Error, offset: int, early: bool) -> Exception:
    """What went wrong, in the judge's terms; `offset` is where the query begins."""
    code, text = error.sqlstate or "", _message(error)
    position = int(error.diag.statement_position or 0) - 1 - offset
    match code[:2], code:
        case _, "57014":
            # Not by its timeout: somebody cancelled it.
            return LostError(text) if early else TooSlowError("out of time")
        case _, "42803":
            return GroupingError(text, position)
        case _, "42501" | "25006" | "0A000":
            return RefusedError(text)
        case _, "53200" | "53400":
            return TooLargeError(text)
        case _, "22P02" if TOO_LARGE in text:
            return TooLargeError(TOO_LARGE.rstrip(":"))
        case "42", _:
            return MeaningError(text)
        case "08" | "53" | "57" | "58" | "40" | "25", _:
            return LostError(text)
        case _, "55P03" | "XX001" | "XX002":
            return LostError(text)
        case _, "" if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            return LostError(text)
        case _:
            return QueryError(text)


def _message(error: psycopg.Error) -> str:
    return (error.diag.message_primary or str(error)).strip()
