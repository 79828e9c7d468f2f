"""Delivers webhooks: signed as Standard Webhooks, tried again until somebody takes them.

In: deliveries that are due (services/webhooks.py). Out: one POST an attempt, by the guard that
goes to no private address and follows no redirect. What is still not taken after about a day
is given up, and the audit log says so.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime

from standardwebhooks import Webhook

from services.audit import AuditLog
from services.callers import Caller
from services.errors import StoreUnavailable
from services.webhooks import Delivery, Endpoint, LastDelivery, Webhooks
from verifiers.guarded_http import Allowed, GuardedError, post

ALLOWED = Allowed("STROP_WEBHOOK_ALLOW")
ATTEMPTS = 15
"""Attempts at one delivery; with the pauses below that is about a day."""
FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 6 * 3600.0
ATTEMPT_SECONDS = 15.0
"""In which an endpoint must answer."""

_LEASE_SECONDS = 2 * ATTEMPT_SECONDS
_AT_A_TIME = 4
_POLL_SECONDS = 0.5
_MOST_ANSWER = 4096
_ERROR_CHARACTERS = 300

_log = logging.getLogger("strop.webhooks")


def pause_after(attempts: int, chance: float, first: float = FIRST_PAUSE_SECONDS) -> float:
    """Seconds until the next attempt: doubled each time, bounded, and shortened by up to half by
    chance in [0, 1), so that what failed together does not return together."""
    longest = min(LONGEST_PAUSE_SECONDS, first * 2 ** (attempts - 1))
    return longest * (1 - chance / 2)


def event_body(event: str, kind: str, job: str, at: float) -> bytes:
    """An event as OpenAI's clients read it."""
    data = {
        "id": event,
        "object": "event",
        "created_at": int(at),
        "type": kind,
        "data": {"id": job},
    }
    return json.dumps(data, separators=(",", ":")).encode()


def signed_headers(secrets: Sequence[str], event: str, body: bytes, at: float) -> dict[str, str]:
    """The headers of Standard Webhooks, with a signature by each secret."""
    moment = datetime.fromtimestamp(int(at), UTC)
    signatures = [Webhook(secret).sign(event, moment, body.decode()) for secret in secrets]
    return {
        "Content-Type": "application/json",
        "User-Agent": "strop",
        "webhook-id": event,
        "webhook-timestamp": str(int(at)),
        "webhook-signature": " ".join(signatures),
    }


def send(endpoint: Endpoint, event: str, body: bytes) -> int:
    """One attempt, in a thread; the endpoint's status. Raises GuardedError."""
    now = time.time()
    answer = post(
        endpoint.url,
        body,
        signed_headers(endpoint.secrets(now), event, body, now),
        deadline=time.monotonic() + ATTEMPT_SECONDS,
        allowed=ALLOWED,
        max_answer=_MOST_ANSWER,
    )
    return answer.status


class WebhookDeliveries:
    """Delivers what is due, a few at a time; `run` it.

    After `attempts` it gives up; `first_pause` is in seconds.
    """

    def __init__(
        self,
        webhooks: Webhooks,
        audit: AuditLog,
        *,
        attempts: int = ATTEMPTS,
        first_pause: float = FIRST_PAUSE_SECONDS,
    ) -> None:
        self._webhooks = webhooks
        self._audit = audit
        self._attempts = attempts
        self._first_pause = first_pause
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set; what is under way then is waited for."""
        with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="webhook") as threads:
            while not stop.is_set():
                try:
                    await self._round(threads, stop)
                except StoreUnavailable as error:
                    _log.warning("%s", error)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _POLL_SECONDS)
            if self._under_way:
                await asyncio.wait(self._under_way, timeout=_LEASE_SECONDS)

    async def _round(self, threads: ThreadPoolExecutor, stop: asyncio.Event) -> None:
        while await self._webhooks.fan_out():
            continue
        while not stop.is_set():
            if len(self._under_way) >= _AT_A_TIME:
                await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
            delivery = await self._webhooks.claim(_LEASE_SECONDS)
            if delivery is None:
                return
            task = asyncio.create_task(self._deliver(delivery, threads))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _deliver(self, delivery: Delivery, threads: ThreadPoolExecutor) -> None:
        endpoint = delivery.endpoint
        body = event_body(delivery.event, delivery.type, delivery.job, delivery.at)
        status, error = None, None
        try:
            loop = asyncio.get_running_loop()
            status = await loop.run_in_executor(threads, send, endpoint, delivery.event, body)
        except GuardedError as guarded:
            error = str(guarded)[:_ERROR_CHARACTERS]
        taken = status is not None and 200 <= status < 300
        last_chance = delivery.attempts >= self._attempts
        last = LastDelivery(
            event=delivery.event,
            at=time.time(),
            attempts=delivery.attempts,
            status=status,
            error=error,
            outcome="delivered" if taken else "given_up" if last_chance else "again",
        )
        again = None
        if not taken and not last_chance:
            again = pause_after(delivery.attempts, random.random(), self._first_pause)
        try:
            if not taken and last_chance:
                await self._give_up(delivery, last)
            await self._webhooks.finish(delivery, last, again)
        except StoreUnavailable as lost:
            _log.warning("%s: its lease will run out: %s", delivery.id, lost)

    async def _give_up(self, delivery: Delivery, last: LastDelivery) -> None:
        endpoint = delivery.endpoint
        why = last.error or f"status {last.status}"
        _log.warning("%s: given up after %d attempts: %s", delivery.id, last.attempts, why)
        await self._audit.record(
            Caller(endpoint.tenant, "service", frozenset()),
            "webhook.give_up",
            endpoint.id,
            "failed",
            facts={"event": delivery.event, "attempts": last.attempts, "why": why},
        )
