"""The REST API as the CLI uses it: plain JSON in and out, errors as sentences.

Where the service is and the key for it come from STROP_URL and STROP_API_KEY, or from what
`strop up` left in the data folder. A followed stream that breaks is taken up where it broke.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import httpx

from services.errors import StropError
from services.settings import DEFAULT_PORT, Settings

_JOBS = "/v1/fine_tuning/jobs"
_TERMINAL = ("succeeded", "failed", "cancelled")
_SPEC_PREFIX = "method.strop."
_RECONNECT_SECONDS = 60.0
_PASSING = (502, 503, 504)  # the service or its store may be back in a moment

Json = dict[str, Any]


class ServiceError(StropError):
    """The service cannot be reached or refused the request; the message says which and why."""

    code = "service_error"


class Client:
    """A connection to one service, with one key."""

    def __init__(self, url: str, api_key: str) -> None:
        self._url = url
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=httpx.Timeout(60, connect=5),
            trust_env=False,
        )

    @classmethod
    def of(cls, settings: Settings) -> Client:
        """The service and the key of this environment. Raises ServiceError without a key."""
        return cls(_url(settings), _api_key(settings))

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.close()

    def submit(self, spec: Mapping[str, Any]) -> Json:
        """Queue a job with this spec."""
        return self.call("POST", _JOBS, json={"method": {"type": "strop", "strop": spec}})

    def job(self, job_id: str) -> Json:
        """The job as it stands."""
        return self.call("GET", f"{_JOBS}/{job_id}")

    def jobs(self, limit: int) -> list[Json]:
        """The newest `limit` jobs, newest first."""
        found: list[Json] = []
        params: Json = {}
        while len(found) < limit:
            params["limit"] = min(100, limit - len(found))
            page = self.call("GET", _JOBS, params=params)
            found += page["data"]
            if not page["has_more"]:
                break
            params["after"] = page["last_id"]
        return found

    def cancel(self, job_id: str) -> Json:
        """Ask the job to stop."""
        return self.call("POST", f"{_JOBS}/{job_id}/cancel")

    def events(self, job_id: str) -> Iterator[Json]:
        """Every event there is so far, in order."""
        params: Json = {"limit": 100}
        while True:
            page = self.call("GET", f"{_JOBS}/{job_id}/events", params=params)
            yield from page["data"]
            if not page["has_more"]:
                return
            params["after"] = page["last_id"]

    def follow(self, job_id: str) -> Iterator[Json]:
        """Every event, those to come included, until the job has ended.

        A broken connection is taken up again; ServiceError when that fails for a minute.
        """
        last = "0"
        broken_at: float | None = None
        while True:
            try:
                for event in self._stream(job_id, last):
                    broken_at, last = None, event["id"]
                    yield event
                    if event["data"].get("status") in _TERMINAL:
                        return
                if self.job(job_id)["status"] in _TERMINAL:
                    return  # `last` was the end already
            except _Unreachable:
                broken_at = broken_at or time.monotonic()
                if time.monotonic() - broken_at > _RECONNECT_SECONDS:
                    raise
            time.sleep(0.5)

    def _stream(self, job_id: str, last: str) -> Iterator[Json]:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
        with (
            self._reaching(),
            self._http.stream("GET", f"{_JOBS}/{job_id}/events", headers=headers) as response,
        ):
            if response.is_error:
                response.read()
                _raise_for(response)
            for line in response.iter_lines():
                # One event is one line of data, and its id is inside.
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))

    def call(self, method: str, path: str, **options: Any) -> Json:
        """What a route answers. Raises ServiceError with what the service says against it."""
        with self._reaching():
            response = self._http.request(method, path, **options)
        _raise_for(response)
        return response.json()

    @contextmanager
    def _reaching(self) -> Generator[None]:
        try:
            yield
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise _Unreachable(
                f"no service answers at {self._url} ({error}); start one with `strop up`, or set "
                "STROP_URL"
            ) from error


class _Unreachable(ServiceError):
    """Nobody answers for now."""


def _raise_for(response: httpx.Response) -> None:
    """Raise what the service says against the request."""
    if not response.is_error:
        return
    try:
        body = response.json()
        problems = body["errors"]
        message = body["detail"]
    except (ValueError, KeyError, TypeError):
        raise ServiceError(
            f"{response.url} answered {response.status_code}, which is not an answer of Strop; "
            "check STROP_URL"
        ) from None
    if problems:
        lines = [f"{p['field'].removeprefix(_SPEC_PREFIX)}: {p['message']}" for p in problems]
        many = f"the job was refused, {len(lines)} problems:\n  " if len(lines) > 1 else ""
        message = many + "\n  ".join(lines)
    elif response.status_code == 401:
        message = f"{message}; set STROP_API_KEY"
    raise (_Unreachable if response.status_code in _PASSING else ServiceError)(message)


def _url(settings: Settings) -> str:
    if settings.url is not None:
        return settings.url.rstrip("/")
    try:
        return json.loads(settings.service_file.read_text(encoding="utf-8"))["url"]
    except FileNotFoundError:
        return f"http://127.0.0.1:{settings.port or DEFAULT_PORT}"


def _api_key(settings: Settings) -> str:
    if settings.api_key is not None:
        return settings.api_key.get_secret_value()
    try:
        return settings.api_key_file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise ServiceError(
            f"no API key: set STROP_API_KEY, or run `strop up`, which puts one into "
            f"{settings.api_key_file}"
        ) from None
