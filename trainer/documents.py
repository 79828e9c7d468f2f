"""A library of the user's own documents: manuals, tickets, code; named by id, or searched.

In: a folder of text files, or a JSONL file of {"id", "text"} rows. Out: whole documents, or
the passages that share the rarest words with a question, ranked by BM25 (Lucene's variant:
Kamphuis et al., 2020). Knows nothing of templates, tokens or models.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from trainer.records import Task
from trainer.spec import PrivilegedSpec

PASSAGE_CHARACTERS = 1200
"""About 300 tokens: a passage holds one thought, and several fit a small budget."""
PASSAGES = 8
"""Passages shown at most, however large the budget: what comes after answers nothing."""
LIBRARY_BYTES = 1 << 30
SHOWN_PROBLEMS = 10

_WORD = r"(?u)\w+"
_PARAGRAPH = re.compile(r"\n\s*\n")


class LibraryError(ValueError):
    """A folder or file of documents that cannot be used."""


@dataclass(frozen=True, slots=True)
class Passage:
    """Part of a document, at most about PASSAGE_CHARACTERS long."""

    document: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:\n{self.text}"


class Library:
    """Documents by id; `left_out` names the files of a folder that are not UTF-8 text."""

    def __init__(self, documents: Mapping[str, str], left_out: Sequence[str] = ()) -> None:
        self.documents = documents
        self.left_out = tuple(left_out)
        self._passages: list[Passage] = []
        self._index: Any = None

    @classmethod
    def open(cls, path: str | Path) -> Library:
        """Read a library. Raises LibraryError when it is missing, empty, too large or malformed."""
        path = Path(path)
        try:
            documents, left_out = _folder(path) if path.is_dir() else (_jsonl(path), [])
        except OSError as error:
            raise LibraryError(f"{path}: cannot be read: {error.strerror or error}") from error
        if not documents:
            raise LibraryError(f"{path}: holds no document with text in it")
        return cls(documents, left_out)

    @classmethod
    def of(cls, spec: PrivilegedSpec) -> Library | None:
        """The library that a spec names, if any. Raises LibraryError."""
        return None if spec.documents is None else cls.open(spec.documents)

    def named(self, document: str) -> str:
        """A whole document, under its name. Raises LibraryError when there is none of that id."""
        if document not in self.documents:
            raise LibraryError(f"no document is called {document!r}")
        return str(Passage(document, self.documents[document]))

    def search(self, question: str, count: int) -> list[Passage]:
        """The `count` best passages, best first; none that shares no word with the question."""
        import bm25s  # pyright: ignore[reportMissingTypeStubs]  slow to load, and seldom needed

        if self._index is None:
            self._passages = [
                Passage(name, text)
                for name, document in self.documents.items()
                for text in passages(document)
            ]
            self._index = bm25s.BM25()
            self._index.index(_words([passage.text for passage in self._passages]), False)
        scores = self._index.get_scores(_words([question])[0])
        best = np.argsort(-scores, kind="stable")[:count]
        return [self._passages[index] for index in best if scores[index] > 0]


def passages(document: str) -> Iterator[str]:
    """Cut a document between paragraphs, or lines where a paragraph is too long."""
    held = ""
    for piece in _pieces(document):
        if held and len(held) + len(piece) > PASSAGE_CHARACTERS:
            yield held.strip()
            held = ""
        held += piece
    if held.strip():
        yield held.strip()


def _pieces(document: str) -> Iterator[str]:
    for paragraph in _PARAGRAPH.split(document):
        if len(paragraph) <= PASSAGE_CHARACTERS:
            yield f"{paragraph}\n\n"
            continue
        for line in paragraph.splitlines(keepends=True):
            for start in range(0, len(line), PASSAGE_CHARACTERS):
                yield line[start : start + PASSAGE_CHARACTERS]


def furnished(task: Task, library: Library, fits: Callable[[Task], bool]) -> Task:
    """The task with the documents that its teacher reads.

    Those it brings itself and those it names come whole. A task with neither gets the best
    passages for the words of its user's messages, as many as `fits` allows; the best one
    always, so that a budget too small for it is told. Raises LibraryError for an unknown id.
    """
    own = task.privileged
    named = tuple(library.named(name) for name in own.document_ids)
    if own.documents or named:
        return _with_documents(task, (*own.documents, *named))
    found = task
    for passage in library.search(question(task), PASSAGES):
        more = _with_documents(task, (*found.privileged.documents, str(passage)))
        if found.privileged.documents and not fits(more):
            break
        found = more
    return found


def question(task: Task) -> str:
    """The words of the user's messages."""
    contents: list[Any] = [m["content"] for m in task.messages if m["role"] == "user"]
    texts: list[str] = []
    for content in contents:
        parts = cast("Sequence[Mapping[str, Any]]", content)
        texts += [content] if isinstance(content, str) else [p.get("text", "") for p in parts]
    return "\n".join(texts)


def _with_documents(task: Task, documents: tuple[str, ...]) -> Task:
    return replace(task, privileged=replace(task.privileged, documents=documents))


def _words(texts: list[str]) -> list[list[str]]:
    """Lower-case words of any language; no list of stop words, which only English would have."""
    from bm25s import tokenization  # pyright: ignore[reportMissingTypeStubs]

    tokenize = cast("Any", tokenization).tokenize
    return tokenize(texts, token_pattern=_WORD, stopwords=[], return_ids=False, show_progress=False)


def _folder(folder: Path) -> tuple[dict[str, str], list[str]]:
    documents: dict[str, str] = {}
    left_out: list[str] = []
    size = 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in Path(name).parts) or not path.is_file():
            continue
        size += path.stat().st_size
        _bounded(folder, size)
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError:
            left_out.append(name)
            continue
        if "\0" in text:
            left_out.append(name)
        elif text.strip():
            documents[name] = text
    return documents, left_out


def _jsonl(path: Path) -> dict[str, str]:
    _bounded(path, path.stat().st_size)
    documents: dict[str, str] = {}
    problems: list[str] = []
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            try:
                row: Any = json.loads(raw)
            except ValueError:
                row = None
            problem = _add(documents, row)
            if problem is not None:
                problems.append(f"line {number}: {problem}")
    if problems:
        shown = problems[:SHOWN_PROBLEMS]
        if rest := len(problems) - len(shown):
            shown.append(f"and {rest} more")
        raise LibraryError("\n".join([f"{path}: {len(problems)} problem(s)", *shown]))
    return documents


def _add(documents: dict[str, str], row: Any) -> str | None:
    """Take in one row; what is wrong with it."""
    if not isinstance(row, dict):
        return 'is not a JSON object {"id": ..., "text": ...}'
    fields = cast("dict[str, Any]", row)
    name, text = fields.get("id"), fields.get("text")
    if not isinstance(name, str) or not name:
        return "id: is not a text that names the document"
    if not isinstance(text, str) or not text.strip():
        return "text: is not the text of a document"
    if name in documents:
        return f"id: {name!r} occurs twice"
    documents[name] = text
    return None


def _bounded(path: Path, size: int) -> None:
    if size > LIBRARY_BYTES:
        raise LibraryError(
            f"{path}: is larger than {LIBRARY_BYTES >> 30} GiB; name the documents of each task, "
            "or give a smaller library"
        )
