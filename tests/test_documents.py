"""The library of documents: read whole, named by id, searched by words, within a budget."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainer.context_checks import unknown_documents
from trainer.documents import (
    PASSAGE_CHARACTERS,
    PASSAGES,
    Library,
    LibraryError,
    furnished,
    passages,
)
from trainer.records import Privileged, Task

PUMPS = "The pump trips when the inlet pressure falls below two bar."
VALVES = "A valve that sticks is opened by hand, never by force."
OIL = "Der Ölstand wird bei kaltem Motor geprüft."


def asked(text: Any, **privileged: Any) -> Task:
    return Task("t1", ({"role": "user", "content": text},), {}, Privileged(**privileged))


def everything(_: Task) -> bool:
    return True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    library = tmp_path / "manuals"
    (library / "hall 2").mkdir(parents=True)
    (library / "pumps.md").write_text(PUMPS)
    (library / "hall 2" / "valves.txt").write_text(VALVES)
    (library / "oil.txt").write_text(OIL, encoding="utf-8")
    (library / "photo.png").write_bytes(b"\x89PNG\xff\xfe")
    (library / "dump.bin").write_bytes(b"a\0b")
    (library / "empty.txt").write_text(" \n")
    (library / ".git").mkdir()
    (library / ".git" / "config").write_text("pump pump pump")
    return library


def test_a_folder_is_read_by_relative_path_and_what_is_no_text_is_told(folder: Path) -> None:
    library = Library.open(folder)
    assert set(library.documents) == {"pumps.md", "hall 2/valves.txt", "oil.txt"}
    assert library.left_out == ("dump.bin", "photo.png")


def test_a_jsonl_library_holds_what_its_rows_say(tmp_path: Path) -> None:
    path = tmp_path / "tickets.jsonl"
    path.write_text('{"id": "T-1", "text": "one", "team": "a"}\n{"id": "T-2", "text": "two"}')
    assert Library.open(path).documents == {"T-1": "one", "T-2": "two"}


def test_every_bad_row_of_a_library_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tickets.jsonl"
    rows = ["{", "[]", '{"id": 1, "text": "x"}', '{"id": "a", "text": ""}']
    path.write_text("\n".join([*rows, '{"id": "b", "text": "x"}', '{"id": "b", "text": "y"}']))
    with pytest.raises(LibraryError) as refused:
        Library.open(path)
    lines = str(refused.value).splitlines()
    assert lines[0] == f"{path}: 5 problem(s)"
    assert [line.split(":")[0] for line in lines[1:]] == [f"line {n}" for n in (1, 2, 3, 4, 6)]
    assert "'b' occurs twice" in lines[-1]


def test_a_library_that_is_missing_or_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="cannot be read: No such file"):
        Library.open(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LibraryError, match="holds no document"):
        Library.open(tmp_path / "empty")


def test_named_documents_come_whole_and_in_order(folder: Path) -> None:
    task = asked("pump?", document_ids=("oil.txt", "pumps.md"))
    seen = furnished(task, Library.open(folder), everything)
    assert seen.privileged.documents == (f"oil.txt:\n{OIL}", f"pumps.md:\n{PUMPS}")


def test_documents_the_task_brings_are_not_searched_for(folder: Path) -> None:
    task = asked("pump?", documents=("my own",))
    assert furnished(task, Library.open(folder), everything).privileged.documents == ("my own",)


def test_a_task_that_names_none_gets_the_passages_that_share_its_words(folder: Path) -> None:
    library = Library.open(folder)
    (found,) = furnished(
        asked("Why does the PUMP trip?"), library, everything
    ).privileged.documents[:1]
    assert found == f"pumps.md:\n{PUMPS}"
    (found,) = furnished(
        asked("Wie prüft man den Ölstand?"), library, everything
    ).privileged.documents
    assert found == f"oil.txt:\n{OIL}"
    parts = [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "valve"}]
    (found,) = furnished(asked(parts), library, everything).privileged.documents
    assert found.startswith("hall 2/valves.txt")


def test_words_that_no_document_has_find_nothing(folder: Path) -> None:
    assert furnished(asked("zebra"), Library.open(folder), everything).privileged.documents == ()


def test_passages_are_added_as_long_as_they_fit_and_the_best_is_always_there() -> None:
    library = Library({f"d{n}": f"pump {'pump ' * n}" for n in range(PASSAGES + 5)})
    task = asked("pump")
    all_of_them = furnished(task, library, everything).privileged.documents
    assert len(all_of_them) == PASSAGES
    two = furnished(task, library, lambda t: len(t.privileged.documents) <= 2)
    assert two.privileged.documents == all_of_them[:2]
    one = furnished(task, library, lambda t: False)
    assert one.privileged.documents == all_of_them[:1], "too long is told, not hidden"


def test_equal_scores_keep_the_order_of_the_library() -> None:
    library = Library(dict.fromkeys("cab", "the same words"))
    assert [p.document for p in library.search("same", 3)] == ["c", "a", "b"]


def test_a_long_document_is_cut_between_paragraphs_and_nothing_is_lost() -> None:
    paragraphs = [f"{n} " + "word " * 100 for n in range(20)] + ["x" * 5000]
    document = "\n\n".join(paragraphs)
    found = list(passages(document))
    assert all(0 < len(passage) <= PASSAGE_CHARACTERS + 2 for passage in found)
    assert "".join("".join(found).split()) == "".join(document.split())
    assert found[0].startswith("0 word")
    assert all(passage[0].isdigit() or passage[0] == "x" for passage in found)


def test_unknown_ids_are_named_with_their_task(folder: Path) -> None:
    tasks = [asked("?", document_ids=("pumps.md", "gone.md"))]
    (problem,) = unknown_documents(tasks, Library.open(folder), "train.jsonl")
    assert "train.jsonl" in str(problem)
    assert "task 't1' names 'gone.md'" in str(problem)


def test_a_library_row_may_be_any_json(tmp_path: Path) -> None:
    path = tmp_path / "lib.jsonl"
    path.write_text(json.dumps({"id": "a", "text": "ü\u2028x"}))
    assert Library.open(path).named("a") == "a:\nü\u2028x"
