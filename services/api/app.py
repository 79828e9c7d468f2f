"""The application: routes, the key they want, the errors they answer with, the store behind.

Stateless but for its connections, so several replicas may stand before one Redis.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.middleware.cors import CORSMiddleware

from services.api import (
    audit_log,
    errors,
    files,
    graders,
    inference,
    job_logs,
    jobs,
    keys,
    me,
    model_routes,
    rollouts,
    tenant_limits,
    webhooks,
)
from services.api.audited import Audited
from services.api.auth import StoreParam, allowed, authenticated
from services.api.bodies import Bodies
from services.api.dry_runs import DryRuns
from services.api.gate import Gate
from services.api.judging import Judging
from services.api.middleware import Identified, Measured
from services.api.model_servers import ModelServers
from services.api.openapi import DESCRIPTION, document, operation_id
from services.api.web_page import page_router
from services.audit import AuditLog
from services.config import JobSpec
from services.event_feed import EventFeed
from services.files import FileStore
from services.idempotency import IdempotencyKeys
from services.key_store import KeyStore
from services.metrics import HttpMetrics, JobMetrics, exposition
from services.oidc import OpenId
from services.served_models import ServedModels
from services.serving_metrics import ServingMetrics
from services.settings import Settings, load_settings
from services.store import Store
from services.tenant_limits import LimitStore
from services.verdict_counts import VerifierMetrics

API_VERSION = "1"


def create_app(settings: Settings | None = None, store: Store | None = None) -> FastAPI:
    """The ASGI application.

    Without `settings` they are read from the environment. Without `store` one is opened on
    `STROP_REDIS_URL` at start and closed at the end; StoreUnavailable then stops the start.
    """
    settings = settings or load_settings()
    http_metrics = HttpMetrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        app.state.store = store or await Store.open(settings.store_url)
        app.state.keys = KeyStore(app.state.store.link)
        app.state.audit = AuditLog(app.state.store.link, settings.audit_max_records)
        app.state.limits = LimitStore(app.state.store.link, settings)
        await app.state.limits.publish()
        app.state.openid = OpenId(settings) if settings.oidc_issuer else None
        app.state.settings = settings
        app.state.files = FileStore(app.state.store.link, settings.files_folder)
        await app.state.files.sweep()
        app.state.idempotency = IdempotencyKeys(app.state.store.link)
        app.state.feed = EventFeed(app.state.store)
        app.state.judging = Judging(settings.verify_workers, settings.databases)
        app.state.dry_runs = DryRuns()
        app.state.traces = rollouts.Traces(app.state.store, settings.jobs_folder)
        app.state.model_servers = ModelServers(ServedModels(app.state.store.link), settings)
        yield
        await app.state.model_servers.close()
        await app.state.dry_runs.close()
        await app.state.judging.close()
        await app.state.feed.close()
        if app.state.openid is not None:
            await app.state.openid.close()
        if store is None:
            await app.state.store.close()

    app = FastAPI(
        title="Strop",
        description=DESCRIPTION,
        version=API_VERSION,
        lifespan=lifespan,
        # The schema is served below, behind the key; the bundled pages would load foreign scripts.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the caller's Host header
        generate_unique_id_function=operation_id,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    errors.install(app)
    app.add_middleware(Audited)
    app.add_middleware(
        Bodies, max_bytes=settings.max_body_bytes, streamed={("POST", files.router.prefix)}
    )
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["*"],
            expose_headers=["ETag", "Location", "Retry-After", "X-Request-Id"],
        )
    app.add_middleware(Gate, settings=settings)
    app.add_middleware(Measured, metrics=http_metrics)
    app.add_middleware(Identified)
    app.include_router(_health())
    app.include_router(page_router())
    for router in (
        jobs.router,
        job_logs.router,
        rollouts.router,
        files.router,
        model_routes.router,
        inference.router,
        webhooks.router,
        graders.router,
        keys.router,
        audit_log.router,
        tenant_limits.router,
        me.router,
        _service(app, http_metrics),
    ):
        app.include_router(router, dependencies=[Depends(authenticated)])
    return app


def _health() -> APIRouter:
    """What a load balancer asks, without a key."""
    router = APIRouter(tags=["Health"])

    @router.get("/healthz", summary="Is the process alive?")
    async def healthz() -> dict[str, str]:
        """Asks nothing but the process itself."""
        return {"status": "ok"}

    @router.get("/readyz", summary="Can it serve requests?")
    async def readyz(store: StoreParam) -> dict[str, str]:
        """Asks whether the store answers."""
        await store.ping()
        return {"status": "ready"}

    return router


def _service(app: FastAPI, http_metrics: HttpMetrics) -> APIRouter:
    """What the service says of itself. Metrics name jobs of every tenant, hence their scope."""
    router = APIRouter(tags=["Service"])

    @router.get(
        "/metrics",
        summary="Prometheus metrics",
        response_class=PlainTextResponse,
        dependencies=[Depends(allowed("metrics:read"))],
    )
    async def metrics(store: StoreParam) -> Response:
        """Counts and times of requests, jobs, verdicts and models, of every tenant."""
        text = exposition(
            http_metrics,
            await JobMetrics.read(store),
            await VerifierMetrics.read(store),
            await ServingMetrics.read(ServedModels(store.link)),
        )
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    @router.get("/v1/config/schema", summary="JSON Schema of a job spec")
    async def schema() -> dict[str, Any]:
        """What `method.strop` of a job may hold, with every default."""
        return JobSpec.model_json_schema()

    @router.get("/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        return JSONResponse(document(app))

    return router
