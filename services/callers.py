"""Who asks, and what they may do: a tenant, an id, a set of scopes.

Every object belongs to a tenant; a caller sees those of its own. Plain data; knows neither
how a caller proves who it is nor what a route does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Scope = Literal[
    "jobs:read",
    "jobs:write",
    "files:read",
    "files:write",
    "models:infer",
    "verify",
    "metrics:read",
    "admin",
]
"""What may be done. `metrics:read` sees numbers of every tenant's jobs; `admin` is the operator:
it implies every other scope, and manages the keys, limits and audit log of every tenant."""

SCOPES: tuple[Scope, ...] = get_args(Scope)
USER_SCOPES: frozenset[Scope] = frozenset(SCOPES) - {"admin", "metrics:read"}
"""What a key gets that is made without naming scopes."""
DEFAULT_TENANT = "default"
TENANT = r"^[a-z0-9][a-z0-9_-]{0,62}$"
"""A tenant's name: it becomes part of keys and of folders."""

SHOWN = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""A name for people: without control characters, which would forge lines of tables and logs."""

_TENANT = re.compile(TENANT, re.ASCII)


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who proved who they are. `id` is a key's id, or `oidc:<subject>`."""

    tenant: str
    id: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whether the scope is granted, `admin` granting every one."""
        return scope in self.scopes or "admin" in self.scopes


def known_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """Those of the names that are scopes: what is not known grants nothing."""
    return frozenset(name for name in names if name in SCOPES)


def is_tenant(name: str) -> bool:
    """Whether a text may be a tenant's name."""
    return _TENANT.fullmatch(name) is not None
