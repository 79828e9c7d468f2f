"""`strop keys`: the API keys of the service."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer

from services.callers import DEFAULT_TENANT, SCOPES, USER_SCOPES, Scope, known_scopes
from services.cli.commands import AsJson, app
from services.errors import BadSettings
from services.settings import Settings, load_settings

keys = typer.Typer(help="API keys.", no_args_is_help=True)
app.add_typer(keys, name="keys")


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Whose key it is, for people to read.")],
    tenant: Annotated[str, typer.Option(help="Whose objects it opens.")] = DEFAULT_TENANT,
    scope: Annotated[
        list[str] | None,
        typer.Option(help=f"What it may do, more than once: {', '.join(SCOPES)}."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create an API key and print it, once. Needs the store itself, not the API."""
    from services.key_store import KeyStore
    from services.redis_link import RedisLink

    url = _store_url(load_settings())
    scopes = _scopes(scope)

    async def create() -> str:
        link = await RedisLink.open(url)
        try:
            return (await KeyStore(link).create(name, tenant=tenant, scopes=scopes)).token
        finally:
            await link.close()

    token = asyncio.run(create())
    print(json.dumps({"name": name, "api_key": token}) if as_json else token)


def _scopes(names: list[str] | None) -> frozenset[Scope]:
    if not names:
        return USER_SCOPES
    scopes = known_scopes(names)
    if unknown := set(names) - scopes:
        raise typer.BadParameter(
            f"there is no scope {sorted(unknown)[0]!r}; there are {', '.join(SCOPES)}",
            param_hint="--scope",
        )
    return scopes


def _store_url(settings: Settings) -> str:
    from services.redis_server import running_url

    own = settings.redis_url is None
    url = running_url(settings.valkey_folder) if own else settings.store_url
    if url is None:
        raise BadSettings(
            f"no store: set STROP_REDIS_URL, or run `strop up` on the data folder {settings.home}"
        )
    return url
