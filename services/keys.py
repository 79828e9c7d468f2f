"""API keys: `strop_<id>_<secret>`. The id finds the record, the secret proves the holder.

Only a SHA-256 of the secret is ever stored. The secret has 256 random bits, so a fast hash
is enough: there is nothing to guess. Pure functions; knows nothing of where records live.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

_PREFIX = "strop"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key without its secret."""

    id: str
    name: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Token:
    """A key as its holder presents it."""

    id: str
    secret: str

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


def new_token() -> Token:
    """A fresh random token."""
    return Token(id=secrets.token_hex(8), secret=secrets.token_hex(32))


def parse_token(text: str) -> Token | None:
    """The token in `text`, or None when it does not have the form of one."""
    parts = text.split("_")
    if len(parts) != 3 or parts[0] != _PREFIX or not parts[1].isalnum() or not parts[2].isalnum():
        return None
    return Token(id=parts[1], secret=parts[2])
