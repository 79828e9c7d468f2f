"""API keys: `strop_<id>_<secret>`. The id finds the record, the secret proves the holder.

Only a SHA-256 of the secret is ever stored. The secret has 256 random bits, so a fast hash
is enough: there is nothing to guess. Pure functions; knows nothing of where records live.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

from services.callers import Caller, Scope

_PREFIX = "strop"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key without its secret. Times are seconds since the epoch."""

    id: str
    name: str
    tenant: str
    scopes: frozenset[Scope]
    created_at: float
    expires_at: float | None = None
    last_used_at: float | None = None
    revoked_at: float | None = None
    previous_until: float | None = None
    """Until when the secret before the last rotation is still accepted."""

    @property
    def caller(self) -> Caller:
        """Whoever holds this key."""
        return Caller(self.tenant, self.id, self.scopes)

    def valid(self, now: float) -> bool:
        """Whether it opens anything at that time."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key with its token, at the only time that anybody sees it."""

    key: ApiKey
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Token:
    """A key as its holder presents it."""

    id: str
    secret: str = field(repr=False)

    @property
    def text(self) -> str:
        """The form that goes after `Authorization: Bearer`."""
        return f"{_PREFIX}_{self.id}_{self.secret}"

    @property
    def digest(self) -> str:
        """The hash of the secret that is stored, hexadecimal."""
        return hashlib.sha256(self.secret.encode()).hexdigest()

    def matches(self, digest: str) -> bool:
        """Whether this secret has that stored hash; takes the same time for every wrong one."""
        return hmac.compare_digest(self.digest, digest)


def new_token(key_id: str | None = None) -> Token:
    """A fresh random token, of a key that exists if its id is given."""
    return Token(id=key_id or secrets.token_hex(8), secret=secrets.token_hex(32))


def parse_token(text: str) -> Token | None:
    """The token in `text`, or None when it does not have the form of one."""
    parts = text.split("_")
    if len(parts) != 3 or parts[0] != _PREFIX or not text.isascii():
        return None
    if not parts[1].isalnum() or not parts[2].isalnum():
        return None
    return Token(id=parts[1], secret=parts[2])
