"""Connections that cannot be held open by doing nothing, or next to nothing.

uvicorn waits for ever for the rest of a request's head, keeps headers and trailers of any size,
and waits for a reader who does not read. Here the head comes within a time and a size, also
after a response whose request's body was never finished, and a response that is not taken away
at all breaks off. How long a body may take is for `bodies` and the uploads to say.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.api.errors import problem

HEAD_SECONDS = 20.0
"""From the connection, or the last response, to the whole head of the next request."""
HEAD_BYTES = 64 * 1024
"""About how much of a head, or of anything else that is no body, is kept."""
UNREAD_SECONDS = 60.0
"""How long a reader may leave a full buffer (64 KiB) as it is."""


class PromptHttp(HttpToolsProtocol):
    """HTTP/1.1 as uvicorn speaks it, with bounds on time and size of a request's head."""

    head_seconds = HEAD_SECONDS
    unread_seconds = UNREAD_SECONDS
    _head_timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None
    _asked = False
    _kept = 0
    """Bytes that came since the parser had something to show for them."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_a_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop(self._head_timer)
        self._stop(self._unread_timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._kept += len(data)
        super().data_received(data)
        if self._kept > HEAD_BYTES:
            self._refuse(431, "head_too_large", f"the request's head exceeds {HEAD_BYTES} bytes")

    def on_body(self, body: bytes) -> None:
        self._kept = 0
        super().on_body(body)

    def on_headers_complete(self) -> None:
        self._kept = 0
        self._stop(self._head_timer)
        self._head_timer = None
        super().on_headers_complete()
        self._asked = True

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._expect_a_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_timer = self.loop.call_later(self.unread_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop(self._unread_timer)
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        del msg  # uvicorn's words, in a body of its own
        self._refuse(400, "bad_request", "this is no HTTP/1.1 request")

    def _expect_a_head(self) -> None:
        self._stop(self._head_timer)
        self._head_timer = self.loop.call_later(self.head_seconds, self._late)

    def _late(self) -> None:
        told = f"the request's head did not arrive within {self.head_seconds:g} s"
        if self._kept and not self._asked:
            self._refuse(408, "request_timeout", told)
        else:  # nothing was asked, or what comes belongs to a request that has its answer
            self.transport.close()

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answer what no application will see, and hang up."""
        if self.transport.is_closing():
            return
        if not self._asked or self.cycle.response_complete:
            body = problem("", status, code, message)
            content = body.model_dump_json().encode()
            self.transport.write(
                f"HTTP/1.1 {status} {body.title}\r\ncontent-type: application/problem+json\r\n"
                f"content-length: {len(content)}\r\nconnection: close\r\n\r\n".encode()
                + content
            )
        self.transport.close()

    @staticmethod
    def _stop(timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()
