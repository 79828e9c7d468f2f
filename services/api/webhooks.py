"""The routes of webhook endpoints, in the form that OpenAI's client calls them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any, Literal, ParamSpec, TypeVar
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from services.api.audited import AuditParam
from services.api.auth import allowed
from services.api.pages import Page, paged
from services.callers import SHOWN, Caller
from services.errors import InvalidRequest, NotFound, Problem
from services.webhook_delivery import ALLOWED, event_body, send
from services.webhooks import EVENT_TYPES, Endpoint, EventType, LastDelivery, Webhooks
from verifiers.guarded_http import BlockedError, GuardedError, check

router = APIRouter(prefix="/v1", tags=["Webhooks"])

_LOOK_UP_SECONDS = 5.0
_THREADS = ThreadPoolExecutor(4, thread_name_prefix="webhook")
_HINT = 4

P = ParamSpec("P")
T = TypeVar("T")
Name = Annotated[
    str, Field(min_length=1, max_length=128, pattern=SHOWN, description="A name for people.")
]
Url = Annotated[
    str,
    Field(
        min_length=1,
        max_length=2048,
        description="Where events are posted: https, at a public address.",
        examples=["https://hooks.example.com/strop"],
    ),
]
EventTypes = Annotated[
    list[EventType], Field(min_length=1, max_length=16, description="What it wants to hear of.")
]
EndpointId = Annotated[str, Path(description="Id of the endpoint, `we_...`.")]
ReadParam = Annotated[Caller, Depends(allowed("jobs:read"))]
WriteParam = Annotated[Caller, Depends(allowed("jobs:write"))]


class CreateEndpoint(BaseModel):
    """An endpoint to make."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    url: Url
    event_types: EventTypes


class UpdateEndpoint(BaseModel):
    """What to change; the rest stays."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = Field(default=None, description="A new name.")
    url: Url | None = Field(default=None, description="A new address.")
    event_types: EventTypes | None = Field(default=None, description="All it wants to hear of.")


class RotateSecret(BaseModel):
    """How to rotate a secret."""

    model_config = ConfigDict(extra="forbid")

    keep_old_secret_active_for_24_hours: bool = Field(
        default=False, description="Whether the old secret signs beside the new one for a day."
    )


class TestEndpoint(BaseModel):
    """What to send for a test."""

    model_config = ConfigDict(extra="forbid")

    event_type: EventType = Field(description="The kind of event.")


class LastDeliveryObject(BaseModel):
    """How the last attempt went."""

    event: str = Field(description="The event, the header `webhook-id`.")
    at: int = Field(description="Seconds since the epoch.")
    attempts: int = Field(description="Attempts at this event.")
    status: int | None = Field(description="What the endpoint answered.")
    error: str | None = Field(description="Why there was no answer.")
    outcome: Literal["delivered", "again", "given_up"] = Field(
        description="`again`: there will be another attempt."
    )


class EndpointObject(BaseModel):
    """A webhook endpoint."""

    id: str = Field(description="Identifier, `we_...`.")
    object: Literal["webhook_endpoint"] = Field(
        default="webhook_endpoint", description="Kind of object."
    )
    name: str = Field(description="A name for people.")
    url: str = Field(description="Where events are posted.")
    event_types: list[EventType] = Field(description="What it hears of.")
    created_at: int = Field(description="Seconds since the epoch.")
    updated_at: int = Field(description="When it or its secret was changed last.")
    signing_secret_hint: str = Field(description="The end of its secret.")
    last_delivery: LastDeliveryObject | None = Field(description="How the last attempt went.")

    @classmethod
    def of(cls, endpoint: Endpoint, last: LastDelivery | None = None) -> EndpointObject:
        """The endpoint on the wire."""
        return cls(**_fields(endpoint, last))


class EndpointWithSecret(EndpointObject):
    """A webhook endpoint with its secret, which is never shown again."""

    signing_secret: str = Field(
        repr=False, description="For `webhooks.unwrap` and others that check signatures."
    )

    @classmethod
    def of(cls, endpoint: Endpoint, last: LastDelivery | None = None) -> EndpointWithSecret:
        """The endpoint on the wire."""
        return cls(**_fields(endpoint, last), signing_secret=endpoint.secret)


class EndpointPage(Page):
    """A page of endpoints, newest first."""

    data: list[EndpointObject] = Field(description="The endpoints.")


class DeletedEndpoint(BaseModel):
    """An endpoint that is gone."""

    id: str = Field(description="Identifier.")
    object: Literal["webhook_endpoint.deleted"] = Field(
        default="webhook_endpoint.deleted", description="Kind of object."
    )
    deleted: Literal[True] = Field(default=True, description="Always true.")


class TestResult(BaseModel):
    """What an endpoint answered to a test."""

    webhook_endpoint_id: str = Field(description="The endpoint.")
    object: Literal["webhook_endpoint.test"] = Field(
        default="webhook_endpoint.test", description="Kind of object."
    )
    event_type: EventType = Field(description="What was sent.")
    status_code: int = Field(description="What the endpoint answered.")
    success: Literal[True] = Field(default=True, description="That it answered.")


class EventTypeList(BaseModel):
    """What endpoints may hear of."""

    object: Literal["list"] = Field(default="list", description="Kind of object.")
    data: list[EventType] = Field(description="The kinds of event.")


def _webhooks(request: Request) -> Webhooks:
    return Webhooks(request.app.state.store.link)


WebhooksParam = Annotated[Webhooks, Depends(_webhooks)]


@router.get("/webhook_event_types", summary="List the kinds of event")
async def list_event_types(caller: ReadParam) -> EventTypeList:
    """What an endpoint may ask for."""
    return EventTypeList(data=list(EVENT_TYPES))


@router.post("/webhook_endpoints", summary="Make a webhook endpoint")
async def create_endpoint(
    body: CreateEndpoint, caller: WriteParam, webhooks: WebhooksParam, audit: AuditParam
) -> EndpointWithSecret:
    """Post events of the caller's jobs to a URL. The answer shows its secret, once."""
    await _check_url(body.url)
    endpoint = await webhooks.create(caller.tenant, body.name, body.url, body.event_types)
    await audit(caller, "webhook.create", endpoint.id, host=urlsplit(endpoint.url).hostname)
    return EndpointWithSecret.of(endpoint)


@router.get("/webhook_endpoints", summary="List webhook endpoints")
async def list_endpoints(
    caller: ReadParam,
    webhooks: WebhooksParam,
    after: Annotated[
        str | None, Query(description="Only endpoints behind the one of this id.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Items in a page.")] = 20,
) -> EndpointPage:
    """The caller's endpoints, newest first."""
    found = await webhooks.list(caller.tenant)
    last = await webhooks.last(caller.tenant)
    if after is not None:
        ids = [endpoint.id for endpoint in found]
        if after not in ids:
            raise NotFound(f"there is no webhook endpoint {after!r}", param="after")
        found = found[ids.index(after) + 1 :]
    page = (EndpointObject.of(endpoint, last.get(endpoint.id)) for endpoint in found[:limit])
    return EndpointPage(**paged(page, len(found) > limit))


@router.get("/webhook_endpoints/{endpoint_id}", summary="Retrieve a webhook endpoint")
async def get_endpoint(
    endpoint_id: EndpointId, caller: ReadParam, webhooks: WebhooksParam
) -> EndpointObject:
    """The endpoint, and how the last attempt at it went."""
    endpoint = await webhooks.get(endpoint_id, caller.tenant)
    return EndpointObject.of(endpoint, (await webhooks.last(caller.tenant)).get(endpoint_id))


@router.post("/webhook_endpoints/{endpoint_id}", summary="Change a webhook endpoint")
async def update_endpoint(
    endpoint_id: EndpointId,
    body: UpdateEndpoint,
    caller: WriteParam,
    webhooks: WebhooksParam,
    audit: AuditParam,
) -> EndpointObject:
    """Change what is given."""
    endpoint = await webhooks.get(endpoint_id, caller.tenant)
    fields = body.model_dump(exclude_none=True)
    if body.url is not None:
        await _check_url(body.url)
    if body.event_types is not None:
        fields["event_types"] = tuple(dict.fromkeys(body.event_types))
    if fields:
        endpoint = await webhooks.change(endpoint, **fields)
    await audit(caller, "webhook.update", endpoint.id, fields=", ".join(sorted(fields)))
    return EndpointObject.of(endpoint, (await webhooks.last(caller.tenant)).get(endpoint_id))


@router.delete("/webhook_endpoints/{endpoint_id}", summary="Delete a webhook endpoint")
async def delete_endpoint(
    endpoint_id: EndpointId, caller: WriteParam, webhooks: WebhooksParam, audit: AuditParam
) -> DeletedEndpoint:
    """Post nothing to it any more; what was on its way is dropped."""
    await webhooks.delete(endpoint_id, caller.tenant)
    await audit(caller, "webhook.delete", endpoint_id)
    return DeletedEndpoint(id=endpoint_id)


@router.post("/webhook_endpoints/{endpoint_id}/rotate_secret", summary="Rotate its secret")
async def rotate_secret(
    endpoint_id: EndpointId,
    caller: WriteParam,
    webhooks: WebhooksParam,
    audit: AuditParam,
    body: RotateSecret | None = None,
) -> EndpointWithSecret:
    """Give it a new secret, which the answer shows, once."""
    overlap = body is not None and body.keep_old_secret_active_for_24_hours
    endpoint = await webhooks.get(endpoint_id, caller.tenant)
    endpoint = await webhooks.rotate(endpoint, overlap=overlap)
    await audit(caller, "webhook.rotate_secret", endpoint.id, overlap=overlap)
    return EndpointWithSecret.of(endpoint)


@router.post("/webhook_endpoints/{endpoint_id}/test", summary="Send it a sample event")
async def test_endpoint(
    endpoint_id: EndpointId,
    body: TestEndpoint,
    caller: WriteParam,
    webhooks: WebhooksParam,
    audit: AuditParam,
) -> TestResult:
    """Post one event of a job that does not exist, once, and tell what came back."""
    endpoint = await webhooks.get(endpoint_id, caller.tenant)
    now = time.time()
    event = f"evt_test_{int(now * 1e6):x}"
    sample = event_body(event, body.event_type, "ftjob-test", now)
    try:
        status = await _in_a_thread(send, endpoint, event, sample)
    except GuardedError as error:
        raise InvalidRequest([Problem("url", f"{endpoint.url}: {error}")]) from None
    await audit(caller, "webhook.test", endpoint.id, status=status)
    return TestResult(
        webhook_endpoint_id=endpoint.id, event_type=body.event_type, status_code=status
    )


def _fields(endpoint: Endpoint, last: LastDelivery | None) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "name": endpoint.name,
        "url": endpoint.url,
        "event_types": list(endpoint.event_types),
        "created_at": int(endpoint.created_at),
        "updated_at": int(endpoint.updated_at),
        "signing_secret_hint": f"...{endpoint.secret[-_HINT:]}",
        "last_delivery": None
        if last is None
        else LastDeliveryObject(
            event=last.event,
            at=int(last.at),
            attempts=last.attempts,
            status=last.status,
            error=last.error,
            outcome=last.outcome,
        ),
    }


def _look_up(url: str) -> None:
    check(url, deadline=time.monotonic() + _LOOK_UP_SECONDS, allowed=ALLOWED)


async def _in_a_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """A call that waits for other people's servers: it must not take the threads of all else."""
    work = partial(call, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_THREADS, work)


async def _check_url(url: str) -> None:
    """Refuse a URL that no event could be posted to, as far as its name can be looked up now."""
    try:
        parts = urlsplit(url)
        problem = None
        if parts.scheme not in ("https", "http") or not parts.hostname:
            problem = "give an https URL"
        elif parts.username is not None or parts.password is not None:
            problem = "a URL with a password in it is kept in no safe place"
        elif parts.fragment or not url.isascii() or any(ord(sign) <= 32 for sign in url):
            problem = "a fragment, a space or a character that is not ASCII has no place in it"
        else:
            await _in_a_thread(_look_up, url)
    except ValueError as error:
        problem = str(error)
    except BlockedError as error:
        problem = str(error)
    except GuardedError:
        problem = None  # its name has no address yet
    if problem is not None:
        raise InvalidRequest([Problem("url", f"{url!r}: {problem}")])
