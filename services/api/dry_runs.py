"""The helper process of dry runs: started by the first, kept warm, ended with the API.

One request at a time, each with a deadline; a helper that dies or is late is ended, and the
next request starts another. Tokenizers and task files stay out of the API's own process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from contextlib import suppress
from typing import Any

from services.config import JobSpec
from services.errors import DryRunUnavailable, InvalidRequest, Problem

DEADLINE_S = 180.0
"""Seconds of one look, the start of a helper included."""
WAIT_S = 60.0
"""Seconds that a request may wait for the ones before it."""
MAX_WAITING = 16
_MAX_ANSWER = 64 * 1024 * 1024

_log = logging.getLogger(__name__)


class DryRuns:
    """Looks at jobs in a process of its own; `close` it."""

    def __init__(self, deadline_s: float = DEADLINE_S) -> None:
        self._deadline = deadline_s
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def look(self, spec: JobSpec, preview: int) -> dict[str, Any]:
        """What services/dry_run.py finds. Raises InvalidRequest when the job is refused, and
        DryRunUnavailable when no helper answers in time."""
        if self._waiting >= MAX_WAITING:
            raise DryRunUnavailable(f"{MAX_WAITING} dry runs wait already; try again in a moment")
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_S):
                await self._turn.acquire()
        except TimeoutError as error:
            raise DryRunUnavailable(
                f"other dry runs took more than {WAIT_S:.0f} s; try again later"
            ) from error
        finally:
            self._waiting -= 1
        try:
            found = await self._asked({"spec": spec.model_dump(mode="json"), "preview": preview})
        finally:
            self._turn.release()
        if "unavailable" in found:
            raise DryRunUnavailable(str(found["unavailable"]))
        if "refused" in found:
            raise InvalidRequest([Problem("method", str(found["refused"]))])
        return found

    async def _asked(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._deadline):
                process = await self._started()
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(json.dumps(request).encode() + b"\n")
                await process.stdin.drain()
                line = await process.stdout.readline()
                if not line:
                    raise ConnectionResetError("it ended without an answer")
                return json.loads(line)
        except TimeoutError as error:
            await self._end()
            raise DryRunUnavailable(
                f"the job could not be looked at within {self._deadline:.0f} s: its tasks are many "
                "or its model is far away"
            ) from error
        except (OSError, ValueError) as error:
            _log.exception("the helper of dry runs failed")
            await self._end()
            raise DryRunUnavailable(
                "the helper of dry runs failed on this job; the service's log says why"
            ) from error
        except asyncio.CancelledError:
            # Its answer would be read as that to the next request.
            await self._end()
            raise

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "services.dry_run",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_MAX_ANSWER,
                start_new_session=True,
            )
        return self._process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def close(self) -> None:
        """End the helper."""
        await self._end()
