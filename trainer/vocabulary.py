"""Whether two models have the same vocabulary: the same number for every token.

Log-probs of the same token ids compare nothing where the ids mean different tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def vocabulary_problem(policy: str | Path, teacher: str | Path) -> str | None:
    """Why the teacher's folder cannot teach the policy's token by token; None when it can."""
    from transformers import AutoConfig, AutoTokenizer

    own: dict[str, int] = AutoTokenizer.from_pretrained(policy, trust_remote_code=False).get_vocab()
    theirs: dict[str, int] = AutoTokenizer.from_pretrained(
        teacher, trust_remote_code=False
    ).get_vocab()
    differing = sorted(
        token for token in own.keys() | theirs.keys() if own.get(token) != theirs.get(token)
    )
    if differing:
        token = differing[0]
        return (
            f"its vocabulary differs from the policy's in {len(differing)} of {len(own)} tokens, for "
            f"example {token!r} is number {theirs.get(token)} there and {own.get(token)} here. "
            "Distillation compares log-probs token by token: take a teacher of the same family"
        )
    config: Any = AutoConfig.from_pretrained(teacher, trust_remote_code=False)
    size = config.get_text_config().vocab_size
    if size <= max(own.values()):
        return (
            f"it scores {size} tokens and its tokenizer has {max(own.values()) + 1}: the model is "
            "not the tokenizer's"
        )
    return None
