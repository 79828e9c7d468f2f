"""The audit log: who changed what, when, and how it ended. Append-only, newest read first.

A Redis stream of one record a change; only the operator's `STROP_AUDIT_MAX_RECORDS` ever
drops the oldest. Facts are a few plain values that a person needs to understand the record,
never a request's body: secrets and texts stay out. Knows nothing of HTTP.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from services.callers import Caller
from services.errors import InvalidRequest, Problem
from services.redis_link import PREFIX, RedisLink

Outcome = Literal["done", "refused", "failed"]
Fact = str | int | float | bool | None

_STREAM = f"{PREFIX}audit"
_ID = re.compile(r"\d{1,20}-\d{1,20}", re.ASCII)
_TEXT = 512


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the log. `at` is in seconds since the epoch, by the store's clock."""

    id: str
    at: float
    tenant: str
    caller: str
    action: str
    target: str | None
    outcome: Outcome
    status: int | None
    request_id: str | None
    facts: Mapping[str, Fact]


class AuditLog:
    """The log of one store. Every method raises StoreUnavailable when the server is lost."""

    def __init__(self, link: RedisLink, max_records: int | None = None) -> None:
        """Keep the log on the other end of `link`; every record, or about `max_records`."""
        self._link = link
        self._bound = [] if max_records is None else ["MAXLEN", "~", max_records]

    async def record(
        self,
        caller: Caller,
        action: str,
        target: str | None,
        outcome: Outcome = "done",
        *,
        status: int | None = None,
        request_id: str | None = None,
        facts: Mapping[str, Fact] | None = None,
    ) -> None:
        """Append one record."""
        fields = {
            "tenant": caller.tenant,
            "caller": caller.id,
            "action": action,
            "outcome": outcome,
            "target": (target or "")[:_TEXT],
            "status": "" if status is None else str(status),
            "request_id": request_id or "",
            "facts": json.dumps(dict(facts or {}), separators=(",", ":")),
        }
        pairs = [text for pair in fields.items() for text in pair]
        await self._link.ask("XADD", _STREAM, *self._bound, "*", *pairs)

    async def page(self, after: str | None = None, limit: int = 20) -> tuple[list[Record], bool]:
        """Up to `limit` records, newest first, from behind the record `after`; are there more?

        Raises InvalidRequest for an `after` that is no record's id.
        """
        if after is not None and not _ID.fullmatch(after):
            raise InvalidRequest([Problem("after", f"{after!r} is not the id of a record")])
        start = "+" if after is None else f"({after}"
        reply = await self._link.ask("XREVRANGE", _STREAM, start, "-", "COUNT", limit + 1)
        entries = cast("list[tuple[str, dict[str, str]]]", reply)
        return [_record_of(*entry) for entry in entries[:limit]], len(entries) > limit


def _record_of(record_id: str, fields: Mapping[str, str]) -> Record:
    return Record(
        id=record_id,
        at=int(record_id.partition("-")[0]) / 1e3,
        tenant=fields["tenant"],
        caller=fields["caller"],
        action=fields["action"],
        target=fields["target"] or None,
        outcome=cast("Outcome", fields["outcome"]),
        status=int(fields["status"]) if fields["status"] else None,
        request_id=fields["request_id"] or None,
        facts=json.loads(fields["facts"]),
    )
