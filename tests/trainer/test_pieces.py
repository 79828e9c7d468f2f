"""What tokens say in bytes: joined, the text of any completion, whatever the tokenizer."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from services.trace_vocabulary import Vocabulary
from tests.tiny_model import SPECIAL, make_tokenizer
from trainer.pieces import pieces, special


def test_a_byte_level_vocabulary_gives_back_every_text() -> None:
    tokenizer = make_tokenizer()
    said, marked = pieces(tokenizer), special(tokenizer)
    text = "3 \u00d7 4 = \U0001f600\n  caf\u00e9"
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert b"".join(said[token] for token in ids) == text.encode()
    assert {said[token] for token in marked} <= {name.encode() for name in SPECIAL}
    closing = tokenizer.eos_token_id
    assert closing in marked
    texts = Vocabulary(said, marked).texts([*ids, closing])
    assert "".join(texts) == f"{text}<|im_end|>"
    assert len(texts) == len(ids) + 1


def test_a_byte_fallback_vocabulary_keeps_its_spaces_and_its_bytes() -> None:
    names = ["<unk>", "a", "\u2581the", *(f"<0x{byte:02X}>" for byte in range(256))]
    model = models.BPE(
        vocab={name: i for i, name in enumerate(names)},
        merges=[],
        byte_fallback=True,
        unk_token="<unk>",
    )
    inner = Tokenizer(model)
    inner.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    said = pieces(tokenizer)
    assert said[2] == b" the"
    assert said[3 + 0xC3] == b"\xc3"
    assert said[3 + 0x41] == b"A"
