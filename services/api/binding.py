"""Where the API may listen: beyond this machine only with keys, and with TLS or a proxy.

Checked before the first request is served, so that a mistake in the settings opens nothing.
"""

from __future__ import annotations

from services.access_settings import AccessSettings, is_loopback
from services.errors import BadSettings
from services.key_store import KeyStore


def check_transport(settings: AccessSettings, host: str) -> None:
    """Raise BadSettings when tokens would cross a network in clear text."""
    if is_loopback(host) or settings.tls_cert is not None or settings.behind_proxy:
        return
    raise BadSettings(
        f"STROP_HOST is {host}, which other machines reach, and API keys would cross the network "
        "in clear text: give STROP_TLS_CERT and STROP_TLS_KEY; or set STROP_BEHIND_PROXY=1 when a "
        "proxy that speaks TLS stands before the API; or listen on 127.0.0.1"
    )


async def check_identities(settings: AccessSettings, host: str, keys: KeyStore) -> None:
    """Raise BadSettings when other machines reach a service that knows nobody."""
    if is_loopback(host) or settings.oidc_issuer is not None:
        return
    known, _ = await keys.list_keys(limit=1)
    if not known:
        raise BadSettings(
            f"STROP_HOST is {host}, which other machines reach, and there is no API key yet: make "
            "the operator's with `strop keys create NAME --scope admin --local`"
        )
