"""What each token of a vocabulary says, in bytes.

A byte-level or byte-fallback vocabulary has tokens that are parts of a character, so only
bytes can be joined to the text of a completion. In: a Hugging Face tokenizer. Out: plain
data that needs it no more.
"""

from __future__ import annotations

import re
from typing import Any

_ANCHOR = "a"
_BROKEN = "\ufffd"
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def byte_of() -> dict[str, int]:
    """The byte that each character of a byte-level token stands for, after GPT-2: those that
    can be printed for themselves, the others in order from U+0100 on."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {
        **{chr(byte): byte for byte in shown},
        **{chr(256 + place): byte for place, byte in enumerate(hidden)},
    }


def pieces(tokenizer: Any) -> dict[int, bytes]:
    """The bytes of every token by its number, special ones too.

    A token is decoded behind another one, because many a decoder takes the space from the
    beginning of a text.
    """
    count = len(tokenizer)
    anchor: list[int] = tokenizer.encode(_ANCHOR, add_special_tokens=False)
    options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    before: str = tokenizer.decode(anchor, **options)
    decoded: list[str] = tokenizer.batch_decode([[*anchor, i] for i in range(count)], **options)
    names: list[str | None] = tokenizer.convert_ids_to_tokens(list(range(count)))
    bytes_of = byte_of()
    return {
        token: _piece(name or "", text.removeprefix(before), bytes_of)
        for token, (name, text) in enumerate(zip(names, decoded, strict=True))
    }


def special(tokenizer: Any) -> frozenset[int]:
    """The tokens that decoding with `skip_special_tokens` leaves out."""
    added: dict[int, Any] = tokenizer.added_tokens_decoder
    return frozenset(token for token, known in added.items() if known.special)


def _piece(name: str, text: str, bytes_of: dict[str, int]) -> bytes:
    if _BROKEN not in text:
        return text.encode("utf-8", errors="replace")
    if match := _BYTE.fullmatch(name):
        return bytes([int(match[1], 16)])
    if name and all(character in bytes_of for character in name):
        return bytes(bytes_of[character] for character in name)
    return text.encode()
