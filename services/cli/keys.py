"""`strop keys`: the API keys of a service, through its API as its operator.

The first key of a store has no API to be asked for: `create --local` asks the store itself.
"""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console

from services.callers import DEFAULT_TENANT, SCOPES, USER_SCOPES, Caller, Scope, known_scopes
from services.cli.client import Client
from services.cli.commands import AsJson, app, listing
from services.errors import BadSettings
from services.settings import Settings, load_settings

keys = typer.Typer(help="API keys. The service's operator may manage them.", no_args_is_help=True)
app.add_typer(keys, name="keys")

KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id: its middle part.")]

_OPERATOR = Caller(DEFAULT_TENANT, "local", frozenset({"admin"}))
_HOUR = 3600


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Whose key it is, for people to read.")],
    tenant: Annotated[str, typer.Option(help="Whose objects it opens.")] = DEFAULT_TENANT,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCOPE",
            help=f"What it may do; give it more than once. There are {', '.join(SCOPES)}; "
            "all but the operator's when absent.",
        ),
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=3650, help="Days until it expires; never when absent.")
    ] = None,
    local: Annotated[
        bool,
        typer.Option("--local", help="Ask the store itself, not the API: for the first key."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create an API key and print it, once."""
    settings, scopes = load_settings(), _scopes(scope)
    lifetime_s = None if days is None else days * 24 * _HOUR
    if local:
        token = asyncio.run(_create_locally(settings, name, tenant, scopes, lifetime_s))
        made: dict[str, Any] = {"name": name, "tenant": tenant, "api_key": token}
    else:
        with Client.of(settings) as client:
            made = client.call(
                "POST",
                "/v1/keys",
                json={
                    "name": name,
                    "tenant": tenant,
                    "scopes": sorted(scopes),
                    "expires_in_s": lifetime_s,
                },
            )
    print(json.dumps(made) if as_json else made["api_key"])


@keys.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the API keys, newest first, revoked ones too."""
    table = listing("ID", "NAME", "TENANT", "SCOPES", "LAST USED", "STATE")
    params: dict[str, Any] = {"limit": 100} | ({} if tenant is None else {"tenant": tenant})
    with Client.of(load_settings()) as client:
        while True:
            page = client.call("GET", "/v1/keys", params=params)
            for key in page["data"]:
                if as_json:
                    print(json.dumps(key))
                    continue
                table.add_row(
                    key["id"],
                    key["name"],
                    key["tenant"],
                    " ".join(key["scopes"]),
                    _time(key["last_used_at"]),
                    _state(key),
                )
            if not page["has_more"]:
                break
            params["after"] = page["last_id"]
    if not as_json:
        Console(soft_wrap=True).print(table)


@keys.command("revoke")
def revoke_key(key_id: KeyId, as_json: AsJson = False) -> None:
    """Let a key open nothing any more, at once."""
    with Client.of(load_settings()) as client:
        key = client.call("DELETE", f"/v1/keys/{key_id}")
    print(json.dumps(key) if as_json else f"{key_id} is revoked")


@keys.command("rotate")
def rotate_key(
    key_id: KeyId,
    grace_hours: Annotated[
        float, typer.Option(min=0, max=720, help="Hours for which the old secret still opens.")
    ] = 24,
    as_json: AsJson = False,
) -> None:
    """Give a key another secret and print it, once; the old one opens for a while."""
    with Client.of(load_settings()) as client:
        made = client.call(
            "POST", f"/v1/keys/{key_id}/rotate", json={"grace_s": int(grace_hours * _HOUR)}
        )
    print(json.dumps(made) if as_json else made["api_key"])


async def _create_locally(
    settings: Settings, name: str, tenant: str, scopes: frozenset[Scope], lifetime_s: int | None
) -> str:
    from services.audit import AuditLog
    from services.key_store import KeyStore
    from services.redis_link import RedisLink

    link = await RedisLink.open(_store_url(settings))
    try:
        made = await KeyStore(link).create(
            name, tenant=tenant, scopes=scopes, lifetime_s=lifetime_s
        )
        facts = {"tenant": tenant, "scopes": ",".join(sorted(scopes))}
        log = AuditLog(link, settings.audit_max_records)
        await log.record(_OPERATOR, "key.create", made.key.id, facts=facts)
        return made.token
    finally:
        await link.close()


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


def _time(seconds: int | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def _state(key: dict[str, Any]) -> str:
    if key["revoked_at"] is not None:
        return f"revoked {_time(key['revoked_at'])}"
    if key["expires_at"] is not None:
        return f"until {_time(key['expires_at'])}"
    return ""
