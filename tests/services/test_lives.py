"""The lives of objects, as the links of the OpenAPI document tell them: made, read, changed, ended.

A walk makes objects and follows links from them in any order, twice, and after their end, while
a worker runs the jobs. Schemathesis holds every answer to the document; that a deleted object
is gone, that another is there and that a status is only left for one that may follow it is
checked here. The steps are drawn by a seeded generator: Hypothesis cannot replay a service
whose answers depend on all that was asked before.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
import requests
import schemathesis
from schemathesis.core import NOT_SET
from schemathesis.core.failures import FailureGroup
from schemathesis.core.transport import Response

from services.jobs import SOURCES, Job, JobStatus, Outcome
from services.store import Store
from tests.services.running import Api
from tests.services.test_conformance import DOCUMENT

STEPS = 350
OPERATIONS: dict[str, dict[str, Any]] = {
    operation["operationId"]: operation
    for methods in DOCUMENT["paths"].values()
    for operation in methods.values()
}
MAKERS = ("create_job", "create_key", "create_endpoint", "upload_file")
DELETES = ("delete_file", "delete_endpoint")


@dataclass(slots=True)
class Made:
    """An object that a request made, as the walk knows it."""

    id: str
    links: dict[str, Any]
    status: JobStatus | None
    gone: bool = False


def links(operation: str) -> dict[str, Any]:
    return OPERATIONS[operation]["responses"]["200"].get("links", {})


class Walk:
    """Requests that follow one another, and what is known of what they made."""

    def __init__(self, api: Api, session: requests.Session, tasks: Path) -> None:
        self._api, self._session = api, session
        schema = schemathesis.openapi.from_dict(DOCUMENT)
        self._operations = {one: schema.find_operation_by_id(one) for one in OPERATIONS}
        self._bodies: dict[str, dict[str, Any]] = {
            "create_job": {
                "model": "smollm2-135m-instruct",
                "training_file": str(tasks),
                "method": {"type": "rlsd"},
            },
            "create_key": {"name": "k"},
            "create_endpoint": {
                "name": "h",
                "url": f"{api.url}/healthz",  # somebody who answers
                "event_types": ["fine_tuning.job.failed"],
            },
            "upload_file": {"file": tasks.read_bytes(), "purpose": "fine-tune"},
            "change_job": {"priority": 3, "metadata": {"team": "a"}},
            "update_endpoint": {"name": "other"},
            "test_endpoint": {"event_type": "fine_tuning.job.failed"},
        }
        self.made: list[Made] = []
        self.answers: Counter[tuple[str, int]] = Counter()
        self.statuses: set[JobStatus] = set()

    def make(self, operation: str) -> None:
        """Ask for a new object."""
        response = self._ask(operation, {})
        assert response.status_code == 200, response.text
        self._remember(operation, response.json())

    def follow(self, made: Made, operation: str) -> None:
        """Follow a link from an object."""
        (name,) = made.links[operation]["parameters"]
        response = self._ask(operation, {name: made.id})
        told = f"{operation} of {made}: {response.status_code} {response.text}"
        assert (response.status_code == 404) == made.gone, told
        if response.status_code != 200:
            return
        made.gone = operation in DELETES
        if operation == "retry_job":
            self._remember(operation, response.json())
        elif made.status is not None and operation.endswith("_job"):
            self._become(made, response.json()["status"])

    def hear(self, job: Job | None) -> None:
        """Hear of what a worker did to a job."""
        for made in self.made:
            if job is not None and made.id == job.id:
                self._become(made, job.status)

    def _become(self, made: Made, status: JobStatus) -> None:
        assert status == made.status or made.status in SOURCES[status], (made, status)
        made.status = status
        self.statuses.add(status)

    def _remember(self, operation: str, told: dict[str, Any]) -> None:
        status = told["status"] if told["object"] == "fine_tuning.job" else None
        self.made.append(Made(told["id"], links(operation), status))

    def _ask(self, operation: str, place: dict[str, str]) -> Response:
        body = self._bodies.get(operation, NOT_SET)
        case = self._operations[operation].Case(path_parameters=place, body=body)
        response = case.call(
            base_url=self._api.url,
            session=self._session,
            headers={"Authorization": f"Bearer {self._api.key}"},
            timeout=60,
        )
        try:
            case.validate_response(response)
        except FailureGroup as failures:
            told = "\n".join(f"{found.title}: {found.message}" for found in failures.exceptions)
            pytest.fail(f"{operation} {place}\n{response.status_code} {response.text}\n{told}")
        self.answers[operation, response.status_code] += 1
        return response


class Worker:
    """Takes jobs, and ends them or gives them back: then they become what they were asked to."""

    def __init__(self, store: Store, chance: Random) -> None:
        self._store, self._chance = store, chance
        self._held: list[Job] = []

    async def work(self) -> Job | None:
        """Do one of these, to one job: as it stands then. None when there was none to take."""
        end = self._chance.choice((None, "succeeded", "failed", "release"))
        if end is None or not self._held:
            job = await self._store.claim("w")
            self._held += [] if job is None else [job]
            return job
        job = self._held.pop(self._chance.randrange(len(self._held)))
        if end == "release":
            return await self._store.release(job.id, job.token, "the worker left")
        return await self._store.transition(job.id, cast("Outcome", end), token=job.token)


async def test_what_was_made_lives_as_the_links_say(api: Api, task_file: Path) -> None:
    chance = Random(1)
    worker = Worker(api.store, chance)
    with requests.Session() as session:
        walk = Walk(api, session, task_file)
        for operation in MAKERS:
            walk.make(operation)
        for _ in range(STEPS):
            kind = chance.random()
            if kind < 0.1:
                walk.make(chance.choice(MAKERS))
            elif kind < 0.25:
                walk.hear(await worker.work())
            else:
                # The newest are the likeliest, so that lives end as well as begin.
                made = walk.made[-1 - min(int(chance.expovariate(0.3)), len(walk.made) - 1)]
                walk.follow(made, chance.choice(list(made.links)))
    told = dict(walk.answers)
    linked = {name for operation in MAKERS for name in links(operation)}
    assert [name for name in linked if not walk.answers[name, 200]] == [], told
    assert [name for name in DELETES if not walk.answers[name, 404]] == [], told
    # What a job's status forbids is refused; it was queued, held and ended in between.
    assert [n for n in ("pause_job", "resume_job", "retry_job") if not walk.answers[n, 409]] == []
    assert walk.statuses >= {"queued", "running", "paused", "succeeded", "failed", "cancelled"}
