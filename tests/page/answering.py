"""A model's server as the API meets it: it streams, piece by piece, what a test lets it say.

No model is loaded: the serving loop's records say where "the model" answers, and the API finds,
asks and passes on as it does with a real one.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from services.served_models import ServedModels, Serving, model_key
from services.store import Store
from tests.page.served import Site

BASE = "smollm2-135m-instruct"
LOOP = "page-tests"
Piece = str | dict[str, Any] | None
Said = Callable[[dict[str, Any]], Iterable[Piece]]
"""What is said to a request: pieces of text, events as they are; None breaks the answer off."""


class Answering:
    """The trained model and its base, both served; `said` is what they answer."""

    def __init__(self, trained: str) -> None:
        self.trained = trained
        self.said: Said = lambda _: ["nothing"]
        self.asked: list[dict[str, Any]] = []
        self.go_on = threading.Event()

    def held(self, first: str, rest: str | None) -> Said:
        """An answer that waits between its first part and the rest until `go_on` is set."""

        def say(_: dict[str, Any]) -> Iterator[Piece]:
            yield first
            assert self.go_on.wait(120)
            yield rest

        return say


@contextmanager
def answering(site: Site) -> Iterator[Answering]:
    """Serve a finished job's model and its base until the end of the block."""
    job = site.job(2, ends=True, name="chatty")
    path = site.home / "jobs" / job / "model"
    path.mkdir(parents=True)
    models = Answering(f"ft:{BASE}:chatty:{job.removeprefix('ftjob-')}")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            size = int(self.headers["content-length"])
            body = json.loads(self.rfile.read(size))
            models.asked.append(body)
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            try:
                for count, piece in enumerate(models.said(body), 1):
                    if piece is None:
                        self.close_connection = True
                        return
                    event = _chunk(piece, count) if isinstance(piece, str) else piece
                    self._event(json.dumps(event))
                self._event("[DONE]")
                self.wfile.write(b"0\r\n\r\n")
            except ConnectionError:
                self.close_connection = True  # who asked is gone

        def _event(self, data: str) -> None:
            event = f"data: {data}\n\n".encode()
            self.wfile.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
            self.wfile.flush()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: a test tells what went wrong."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    ready = Serving("ready", 0.0, f"http://127.0.0.1:{server.server_port}")
    keys = [model_key(BASE, BASE), model_key(models.trained, str(path))]

    async def begin(store: Store) -> None:
        served = ServedModels(store.link)
        assert await served.lead(LOOP, 3600)
        await served.tell(dict.fromkeys(keys, ready))

    async def end(store: Store) -> None:
        served = ServedModels(store.link)
        await served.tell({})
        await served.resign(LOOP)

    site.ask(begin)
    try:
        yield models
    finally:
        models.go_on.set()
        site.ask(end)
        server.shutdown()
        server.server_close()
        thread.join(10)


def _chunk(text: str, tokens: int) -> dict[str, Any]:
    usage = {"prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": 3 + tokens}
    return {"choices": [{"index": 0, "delta": {"content": text}}], "usage": usage}
