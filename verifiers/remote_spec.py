"""What a task asks of an HTTP grader of the user's own."""

from __future__ import annotations

from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from verifiers import strict_json


class RemoteSpec(BaseModel):
    """A grader behind `url`, which is sent the completion and answers with a score."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["remote"] = "remote"
    url: str = Field(
        max_length=2_000,
        description="Where to POST; https, or http at an address that the operator allows.",
    )
    secret: str = Field(
        pattern=r"^[A-Za-z][A-Za-z0-9_]*$",
        max_length=60,
        description="Name of the signing key: the environment variable "
        "STROP_GRADER_SECRET_<NAME> of whoever runs the pool holds it.",
    )
    item: Any = Field(None, description="JSON that is sent along: a reference answer, say.")
    deadline_s: float = Field(10.0, gt=0, le=120, description="Seconds for all attempts together.")
    retries: int = Field(2, ge=0, le=5, description="Further attempts after a failed one.")

    @property
    def granted_s(self) -> float:
        """Wall seconds that judging may take."""
        return self.deadline_s + 5.0

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        try:
            parts = urlsplit(self.url)
            port_is_valid = parts.port is None or parts.port > 0
        except ValueError as error:
            raise ValueError(f"url: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_valid:
            raise ValueError(f"url: {self.url[:80]!r} is no http or https address")
        if parts.username is not None or parts.password is not None or parts.fragment:
            raise ValueError("url: must not hold a user, a password or a fragment")
        if not self.url.isascii() or any(c <= " " or c == "\x7f" for c in self.url):
            raise ValueError("url: holds blanks or characters that are not ASCII")
        try:
            strict_json.dumps(self.item)
        except (TypeError, ValueError) as error:
            raise ValueError(f"item: is no JSON: {error}") from None
        return self
