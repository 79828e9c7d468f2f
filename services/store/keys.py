"""Where API keys are kept."""

from __future__ import annotations

from services.keys import ApiKey, new_token, parse_token
from services.store.part import Part, key


class Keys(Part):
    """API keys, made and checked."""

    async def create_key(self, name: str) -> str:
        """Make an API key and return its token: the only time that anybody sees it."""
        token = new_token()
        seconds, micros = await self._link.ask("TIME")
        await self._link.ask(
            "HSET", key(f"key:{token.id}"),
            "name", name, "digest", token.digest, "created_at", f"{seconds}.{micros:06d}",
        )  # fmt: skip
        return token.text

    async def check_key(self, token: str) -> ApiKey | None:
        """The key this token proves, or None."""
        parsed = parse_token(token)
        if parsed is None:
            return None
        fields = await self._link.ask("HGETALL", key(f"key:{parsed.id}"))
        if not parsed.matches(fields.get("digest", "")):
            return None
        return ApiKey(parsed.id, fields["name"], float(fields["created_at"]))
