"""The REST API as the CLI uses it: the `openai` package with Strop's documented extras.

Where the service is and the key for it come from STROP_URL and STROP_API_KEY, or from what
`strop up` left in the data folder. Plain JSON in and out, errors as sentences. A followed
stream that breaks is taken up where it broke.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from services.access_settings import is_loopback
from services.errors import StropError
from services.settings import DEFAULT_PORT, Settings

if TYPE_CHECKING:
    from openai import APIStatusError, BaseModel
    from openai.pagination import SyncCursorPage

_JOBS = "/fine_tuning/jobs"
_TERMINAL = ("succeeded", "failed", "cancelled")
_SPEC_PREFIX = "method.strop."
_RECONNECT_SECONDS = 60.0
_PASSING = (502, 503, 504)  # the service or its store may be back in a moment
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 60.0
_DRY_RUN_SECONDS = 300.0
_UPLOAD_SECONDS = 3600.0

Json = dict[str, Any]


class ServiceError(StropError):
    """The service cannot be reached or refused the request; the message says which and why."""

    code = "service_error"


class Client:
    """A connection to one service, with one key."""

    def __init__(self, url: str, api_key: str) -> None:
        import httpx
        import openai  # most commands ask no service

        self._url = url
        # No proxy of the environment stands between a machine and its own loopback; a service
        # elsewhere may want one, or certificates that SSL_CERT_FILE names.
        elsewhere = not is_loopback(httpx.URL(url).host)
        self._http = openai.DefaultHttpxClient(trust_env=elsewhere)
        self._openai = openai.OpenAI(
            base_url=f"{url}/v1",
            api_key=api_key,
            max_retries=0,
            timeout=openai.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
            http_client=self._http,
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
        self._openai.close()

    def upload(self, path: Path) -> str:
        """Upload a file of tasks; its id."""
        with self._reaching(), path.open("rb") as data:
            made = self._openai.files.create(
                file=(path.name, data), purpose="fine-tune", timeout=_UPLOAD_SECONDS
            )
        return made.id

    def submit(self, spec: Mapping[str, Any], **extras: Any) -> Json:
        """Queue a job with this spec; extras are the API's own: priority, max_runtime, ..."""
        return self._create(spec, extras, _ANSWER_SECONDS * 3)

    def dry_run(self, spec: Mapping[str, Any], preview: int) -> Json:
        """What a job with this spec would be and take, with its first `preview` tasks shown."""
        return self._create(spec, {"dry_run": True, "preview": preview}, _DRY_RUN_SECONDS)

    def _create(self, spec: Mapping[str, Any], extras: Json, seconds: float) -> Json:
        with self._reaching():
            made = self._openai.fine_tuning.jobs.create(
                model=spec["model"]["path"],
                training_file=spec["tasks"]["train"],
                # A method of our own: the package's type knows OpenAI's alone.
                method=cast("Any", {"type": "strop", "strop": spec}),
                extra_body={name: value for name, value in extras.items() if value is not None},
                timeout=seconds,
            )
        return _plain(made)

    def job(self, job_id: str) -> Json:
        """The job as it stands."""
        with self._reaching():
            return _plain(self._openai.fine_tuning.jobs.retrieve(job_id))

    def jobs(self, limit: int, metadata: Mapping[str, str] | None = None) -> list[Json]:
        """The newest `limit` jobs with this metadata, newest first."""
        with self._reaching():
            page = self._openai.fine_tuning.jobs.list(
                limit=min(100, limit), metadata=dict(metadata or {})
            )
            return list(_items(page, limit))

    def cancel(self, job_id: str) -> Json:
        """Ask the job to stop."""
        with self._reaching():
            return _plain(self._openai.fine_tuning.jobs.cancel(job_id))

    def pause(self, job_id: str) -> Json:
        """Ask the job to save itself and free what it holds."""
        with self._reaching():
            return _plain(self._openai.fine_tuning.jobs.pause(job_id))

    def resume(self, job_id: str) -> Json:
        """Queue a paused job again."""
        with self._reaching():
            return _plain(self._openai.fine_tuning.jobs.resume(job_id))

    def retry(self, job_id: str, checkpoint: str | None) -> Json:
        """Queue a new job like one that has ended, from a checkpoint or from its start."""
        return self.call("POST", f"{_JOBS}/{job_id}/retry", json={"checkpoint": checkpoint})

    def change(self, job_id: str, changes: Mapping[str, Any]) -> Json:
        """Change what may change of a job."""
        return self.call("PATCH", f"{_JOBS}/{job_id}", json=changes)

    def checkpoints(self, job_id: str) -> list[Json]:
        """The checkpoints that are still there, newest first."""
        with self._reaching():
            page = self._openai.fine_tuning.jobs.checkpoints.list(job_id, limit=100)
            return list(_items(page))

    def events(self, job_id: str) -> Iterator[Json]:
        """Every event there is so far, in order."""
        with self._reaching():
            yield from _items(self._openai.fine_tuning.jobs.list_events(job_id, limit=100))

    def metrics(self, job_id: str) -> Iterator[Json]:
        """The numbers of every step and evaluation so far, in order."""
        after: Json = {}
        while True:
            page = self.call("GET", f"{_JOBS}/{job_id}/metrics", params={"limit": 100, **after})
            yield from page["data"]
            if not page["has_more"]:
                return
            after = {"after": page["last_id"]}

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
        from openai import Stream
        from openai.types.fine_tuning import FineTuningJobEvent

        headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
        with (
            self._reaching(),
            self._openai.get(
                f"{_JOBS}/{job_id}/events",
                cast_to=FineTuningJobEvent,
                options={"headers": headers},
                stream=True,
                stream_cls=Stream[FineTuningJobEvent],
            ) as events,
        ):
            for event in events:
                yield _plain(event)

    def call(
        self,
        method: str,
        path: str,
        *,
        json: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Json:
        """What one of the routes answers that OpenAI's API does not have."""
        send = {
            "GET": self._openai.get,
            "POST": self._openai.post,
            "PATCH": self._openai.patch,
            "DELETE": self._openai.delete,
        }[method]
        more: Any = {"body": dict(json)} if json is not None else {}
        if params:
            more["options"] = {"params": dict(params)}
        with self._reaching():
            return cast("Json", send(path.removeprefix("/v1"), cast_to=object, **more))

    @contextmanager
    def _reaching(self) -> Generator[None]:
        import openai

        try:
            yield
        except openai.APIStatusError as error:
            raise _refusal(error) from error
        except (openai.APIConnectionError, ValueError) as error:
            cause = error.__cause__ or error
            raise _Unreachable(
                f"no service answers at {self._url} ({cause}); start one with `strop up`, or set "
                "STROP_URL"
            ) from error


class _Unreachable(ServiceError):
    """Nobody answers for now."""


def _plain(model: BaseModel) -> Json:
    """An object as the service sent it, with what OpenAI's types do not know."""
    return model.to_dict(mode="json", warnings=False)


def _items(page: SyncCursorPage[Any], limit: int | None = None) -> Iterator[Json]:
    """The items of a page and of those behind it, up to `limit`."""
    for count, item in enumerate(page):
        if count == limit:
            return
        yield _plain(item)


def _refusal(error: APIStatusError) -> ServiceError:
    """What the service says against the request."""
    try:
        body = error.response.json()
        problems, message = body["errors"], body["detail"]
    except (ValueError, KeyError, TypeError):
        return ServiceError(
            f"{error.response.url} answered {error.status_code}, which is not an answer of Strop; "
            "check STROP_URL"
        )
    if problems:
        lines = [f"{p['field'].removeprefix(_SPEC_PREFIX)}: {p['message']}" for p in problems]
        many = f"the job was refused, {len(lines)} problems:\n  " if len(lines) > 1 else ""
        message = many + "\n  ".join(lines)
    elif error.status_code == 401:
        message = f"{message}; set STROP_API_KEY"
    return (_Unreachable if error.status_code in _PASSING else ServiceError)(message)


def _url(settings: Settings) -> str:
    if settings.url:
        return settings.url.rstrip("/")
    try:
        return json.loads(settings.service_file.read_text(encoding="utf-8"))["url"]
    except FileNotFoundError:
        return f"http://127.0.0.1:{settings.port or DEFAULT_PORT}"


def _api_key(settings: Settings) -> str:
    file = settings.api_key_file
    if settings.api_key is not None and (key := settings.api_key.get_secret_value()):
        return key
    if file.exists() and (key := file.read_text(encoding="utf-8").strip()):
        return key
    raise ServiceError(
        f"no API key: set STROP_API_KEY, or run `strop up`, which puts one into {file}"
    )
