"""Which completion tokens lie between `<tag>` and `</tag>`.

Evidence may be limited to a span, the thought say (`span_tag` of RLSD). Tags are text and
may be cut into tokens in many ways (`></` is one token of many vocabularies), so spans are
found in the decoded text and carried over to tokens by the lengths of decoded prefixes.
A token is inside only if all of it is.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Decode = Callable[[Sequence[int]], str]

_PROMPT_TAIL = 16


def span_mask(
    prompt_ids: Sequence[int] | NDArray[np.int32],
    completion_ids: Sequence[int] | NDArray[np.int32],
    tag: str,
    decode: Decode,
) -> NDArray[np.bool_]:
    """bool[T]: True for tokens inside a span of `tag`.

    A span that is never closed runs to the end. A prompt that ends with the open tag, as
    some reasoning models' chat templates do, opens the span before the first token.
    `decode` must keep special tokens and not tidy spaces.
    """
    ids = [int(token) for token in completion_ids]
    text = decode(ids)
    mask = np.zeros(len(ids), dtype=np.bool_)

    def prefix_length(tokens: int) -> int:
        return len(decode(ids[:tokens]))

    tail = decode([int(token) for token in prompt_ids[-_PROMPT_TAIL:]])
    opened = tail.rstrip().endswith(f"<{tag}>")
    for begin, end in _spans(text, tag, opened):
        tokens = range(len(ids) + 1)
        first = bisect_left(tokens, begin, key=prefix_length)
        last = bisect_right(tokens, end, key=prefix_length) - 1
        mask[first:last] = True
    return mask


def _spans(text: str, tag: str, opened: bool) -> list[tuple[int, int]]:
    """Character ranges of `text` inside the tag."""
    opening, closing = f"<{tag}>", f"</{tag}>"
    spans: list[tuple[int, int]] = []
    at = 0
    while True:
        if not opened:
            found = text.find(opening, at)
            if found < 0:
                return spans
            at = found + len(opening)
        end = text.find(closing, at)
        if end < 0:
            return [*spans, (at, len(text))]
        spans.append((at, end))
        at, opened = end + len(closing), False
