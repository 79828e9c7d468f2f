"""Run the API: `python -m services.api`, on STROP_HOST:STROP_PORT or on an inherited socket.

`strop up` binds the socket itself before anything starts and hands it down (`--fd`), so a
port in use is known at once and cannot be lost in between.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys

import uvicorn

from services.api.app import create_app
from services.api.binding import check_identities, check_transport
from services.api.connection import PromptHttp
from services.api.middleware import log_with_request_ids
from services.errors import StropError
from services.key_store import KeyStore
from services.settings import Settings, load_settings
from services.store import Store

STOP_SECONDS = 3  # a follower's stream has no end of its own


async def _serve(settings: Settings, listener: socket.socket | None) -> None:
    host = settings.host if listener is None else str(listener.getsockname()[0])
    check_transport(settings, host)
    store = await Store.open(settings.store_url)
    try:
        await check_identities(settings, host, KeyStore(store.link))
        config = uvicorn.Config(
            create_app(settings, store),
            host=settings.host,
            port=settings.port,
            http=PromptHttp,
            ws="none",
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=STOP_SECONDS,
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
            proxy_headers=settings.behind_proxy,
            forwarded_allow_ips=list(settings.forwarded_allow_ips),
        )
        await uvicorn.Server(config).serve(sockets=None if listener is None else [listener])
    finally:
        await store.close()


def main() -> int:
    """Serve until SIGTERM; 2 when the settings are unsafe or the store cannot be reached."""
    parser = argparse.ArgumentParser(prog="services.api")
    parser.add_argument("--fd", type=int, help="file descriptor of a listening socket")
    fd = parser.parse_args().fd
    listener = None if fd is None else socket.socket(fileno=fd)
    log_with_request_ids()
    try:
        asyncio.run(_serve(load_settings(), listener))
    except StropError as error:
        print(f"strop api: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
