"""The application inside of the test's own process, for settings that the shared one has not."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from services.api.app import create_app
from services.settings import Settings
from services.store import Store


@asynccontextmanager
async def serving(store: Store, **settings: Any) -> AsyncGenerator[FastAPI]:
    """The application over this store, started and ended as a server does."""
    app = create_app(Settings(**settings), store)
    async with app.router.lifespan_context(app):
        yield app


def client_of(app: FastAPI, token: str = "", **headers: str) -> httpx.AsyncClient:
    """A client that speaks to the application as it would over loopback."""
    own = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False),
        base_url="http://127.0.0.1",
        headers={**own, **headers},
    )
