"""The service over a recording: a store, the API and the page, and nothing that trains.

Everything lies in a scratch folder that is gone when it ends. The key it makes can look at
everything and change nothing.
"""

from __future__ import annotations

import os
import webbrowser
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from services.callers import Scope
from services.local import Service, up
from services.local_parts import Tell
from services.recordings import play
from services.settings import Settings
from services.store import Store

SCOPES: tuple[Scope, ...] = ("jobs:read", "files:read", "models:infer")


def demo(
    settings: Settings, recording: Path, *, tell: Tell, on_ready: Callable[[Service, str], None]
) -> int:
    """Serve a recording in the foreground until a signal comes; the exit status.

    `on_ready` gets the service and the address at which the page is signed in: its fragment,
    which no server sees, holds the key. On a free port, unless the settings name one. Raises
    BadRecording, CannotStart and StoreUnavailable, with nothing left behind.
    """
    with TemporaryDirectory(prefix="strop-demo-", ignore_cleanup_errors=True) as scratch:
        home = Path(scratch)
        own = {"home": home, "redis_url": None, "ray_address": None, "data_roots": []}
        port = settings.port if "port" in settings.model_fields_set else 0
        own_settings = settings.model_copy(update={**own, "port": port})

        async def seed(store: Store) -> None:
            await play(recording, store.link, own_settings.jobs_folder)

        def ready(service: Service) -> None:
            key = service.api_key_file.read_text(encoding="utf-8").strip()
            on_ready(service, f"{service.url}/#key={key}")

        return up(own_settings, tell=tell, on_ready=ready, seed=seed, scopes=SCOPES)


def open_browser(url: str) -> bool:
    """Open the address in a browser with a window; whether there is one."""
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False  # a browser of the terminal would take it over
    try:
        return webbrowser.open(url)
    except webbrowser.Error:
        return False
