"""What the tokens of a job's traces say: `vocabulary.parquet`, beside the steps.

| column    | type   | meaning                                                 |
|-----------|--------|---------------------------------------------------------|
| `id`      | int32  | the token's number                                      |
| `bytes`   | binary | its UTF-8 text; of a piece of a character, a part of it |
| `special` | bool   | whether the `text` of a rollout leaves it out           |

Kept once for a job, so that a completion can be shown token by token without its model, which
may be gone, and without a tokenizer. Reads and writes files; knows nothing of models.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from services.whole_files import written_whole

VOCABULARY_FILE = "vocabulary.parquet"
_SCHEMA = pa.schema([("id", pa.int32()), ("bytes", pa.binary()), ("special", pa.bool_())])


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The bytes of tokens by their number, and which are special. One that is not known, as
    padding of a model's projection has it, says nothing."""

    pieces: Mapping[int, bytes]
    special: frozenset[int] = frozenset()

    def text(self, token: int) -> str:
        """What a token says on its own; U+FFFD for a part of a character."""
        return self.pieces.get(token, b"").decode("utf-8", errors="replace")

    def texts(self, tokens: Iterable[int]) -> list[str]:
        """What each of these tokens adds to their text, special ones too.

        A character that several tokens make up stands at the last of them, so that joined they
        are the text.
        """
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        found = [decoder.decode(self.pieces.get(token, b"")) for token in tokens]
        if found:
            found[-1] += decoder.decode(b"", final=True)
        return found


def write_vocabulary(folder: str | Path, vocabulary: Vocabulary) -> Path:
    """Keep the vocabulary of the traces in `folder`, whole or not at all."""
    path = Path(folder) / VOCABULARY_FILE
    ids = sorted(vocabulary.pieces)
    columns = {
        "id": ids,
        "bytes": [vocabulary.pieces[token] for token in ids],
        "special": [token in vocabulary.special for token in ids],
    }
    table = pa.Table.from_pydict(columns, schema=_SCHEMA)
    with written_whole(path) as file:
        pq.write_table(table, file, compression="zstd", use_dictionary=False)
    return path


def has_vocabulary(folder: str | Path) -> bool:
    """Whether the vocabulary of the traces in `folder` is kept."""
    return (Path(folder) / VOCABULARY_FILE).exists()


def read_vocabulary(folder: str | Path, tokens: Collection[int] | None = None) -> Vocabulary | None:
    """The vocabulary of the traces in `folder`, or what it says of some tokens; None where an
    earlier release kept none."""
    if not has_vocabulary(folder):
        return None
    path = Path(folder) / VOCABULARY_FILE
    wanted = None if tokens is None else [("id", "in", list(tokens))]
    table = pq.read_table(path, schema=_SCHEMA, filters=wanted)
    ids: Sequence[int] = table.column("id").to_pylist()
    pieces: Sequence[bytes] = table.column("bytes").to_pylist()
    marks: Sequence[bool] = table.column("special").to_pylist()
    special = frozenset(token for token, marked in zip(ids, marks, strict=True) if marked)
    return Vocabulary(dict(zip(ids, pieces, strict=True)), special)
