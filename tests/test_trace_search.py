"""Looking into traces: what is asked for is found, in order, whatever the size of a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services import traces
from services.trace_search import Place, Wanted, rollout_at, search
from services.trace_vocabulary import Vocabulary, read_vocabulary, write_vocabulary
from services.traces import StepTrace, TraceError, step_path, write_step
from trainer.records import Group, Rollout, Task
from verifiers.verdict import Verdict

VERDICTS = (
    Verdict(1.0, "correct", {"expected": "12"}, 1.5, 2.5),
    Verdict(0.5, "wrong"),
    Verdict(0.0, "malformed"),
    Verdict(None, "infra_error"),
)


def group(index: int) -> Group:
    """Four rollouts, one with each verdict; every other group's task has another verifier."""
    kind = "math" if index % 2 == 0 else "text"
    rollouts = tuple(
        Rollout(
            prompt_ids=np.array([1], np.int32),
            completion_ids=np.arange(r + 1, dtype=np.int32),
            logprobs=np.zeros(r + 1, np.float32),
            text=f"Group {index} says {'YES' if r % 2 else 'no'} 100%",
            version=0,
            finish_reason="stop",
        )
        for r in range(len(VERDICTS))
    )
    task = Task(f"task-{index}", ({"role": "user", "content": "?"},), {"kind": kind, "answer": "x"})
    return Group(task, rollouts, VERDICTS, np.array([1, 0, -1, np.nan], np.float32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps of three groups of four."""
    path = tmp_path_factory.mktemp("traces")
    for step in range(3):
        write_step(path, StepTrace(step, tuple(group(index) for index in range(3))))
    return path


def ids(folder: Path, limit: int = 100, **asked: Any) -> list[str]:
    options = {name: asked.pop(name) for name in ("after", "newest_first") if name in asked}
    found = search(folder, Wanted(**asked), limit=limit, **options)
    return [str(place) for place, _ in found.rows]


def test_every_filter_finds_what_it_names_and_nothing_else(folder: Path) -> None:
    everything = ids(folder)
    assert len(everything) == 36
    assert everything[:5] == ["1-0-0", "1-0-1", "1-0-2", "1-0-3", "1-1-0"]
    assert ids(folder, step=2) == [one for one in everything if one.startswith("2-")]
    assert ids(folder, step=2, group=1) == ["2-1-0", "2-1-1", "2-1-2", "2-1-3"]
    assert ids(folder, task_id="task-1", step=1) == ["1-1-0", "1-1-1", "1-1-2", "1-1-3"]
    assert ids(folder, verifier="text") == [one for one in everything if one[2] == "1"]
    assert ids(folder, verifier="sql") == []
    assert ids(folder, status="wrong") == [one for one in everything if one.endswith("-1")]
    assert ids(folder, min_score=0.5) == [one for one in everything if one[-1] in "01"]
    assert ids(folder, max_score=0.5) == [one for one in everything if one[-1] in "12"]
    assert ids(folder, min_score=0.5, max_score=0.5, step=3) == ["3-0-1", "3-1-1", "3-2-1"]
    assert ids(folder, text="yes 100%", group=2, step=1) == ["1-2-1", "1-2-3"]
    assert ids(folder, text="GROUP 1 .*") == []
    assert ids(folder, step=9) == []
    assert ids(folder / "absent") == []


def test_a_row_tells_the_verdict_and_how_long_the_completion_is(folder: Path) -> None:
    ((place, row),) = search(folder, Wanted(step=1, group=0, status="correct")).rows
    assert place == Place(1, 0, 0)
    assert (row["verifier"], row["evidence"], row["cpu_ms"]) == ("math", {"expected": "12"}, 1.5)
    assert (row["tokens"], row["text"], row["score"]) == (1, "Group 0 says no 100%", 1.0)


def test_the_newest_step_may_come_first(folder: Path) -> None:
    newest = ids(folder, newest_first=True, status="wrong")
    assert newest == [f"{step}-{group}-1" for step in (3, 2, 1) for group in (0, 1, 2)]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.booleans(), st.sampled_from([None, "correct", "infra_error"]))
def test_pages_laid_side_by_side_are_the_whole(
    folder: Path, limit: int, newest_first: bool, status: str | None
) -> None:
    wanted = Wanted(status=status)
    whole = search(folder, wanted, limit=100, newest_first=newest_first)
    assert not whole.more
    pages: list[Place] = []
    after: Place | None = None
    while True:
        page = search(folder, wanted, after=after, limit=limit, newest_first=newest_first)
        assert len(page.rows) <= limit
        pages += [place for place, _ in page.rows]
        after = page.last
        if not page.more:
            break
        assert len(page.rows) == limit
    assert pages == [place for place, _ in whole.rows]


def test_a_search_that_takes_long_says_where_it_goes_on(folder: Path) -> None:
    wanted, after, pages = Wanted(status="correct", group=2), None, 0
    found: list[str] = []
    while True:
        page = search(folder, wanted, after=after, seconds=0.0)
        found += [str(place) for place, _ in page.rows]
        pages += 1
        after = page.last
        if not page.more:
            break
    assert found == ["1-2-0", "2-2-0", "3-2-0"]
    assert pages == 3


def test_one_rollout_is_read_out_of_its_row_group_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "ROW_GROUP_TOKENS", 11)
    path = write_step(tmp_path, StepTrace(0, tuple(group(index) for index in range(5))))
    sizes = pq.ParquetFile(path).metadata
    assert [sizes.row_group(i).num_rows for i in range(sizes.num_row_groups)] == [8, 8, 4]
    row = rollout_at(tmp_path, Place(1, 3, 2))
    assert row is not None
    assert (row["task_id"], row["completion_ids"]) == ("task-3", [0, 1, 2])
    assert len(ids(tmp_path)) == 20
    assert ids(tmp_path, verifier="text") == [f"1-{g}-{r}" for g in (1, 3) for r in range(4)]
    for absent in (Place(1, 5, 0), Place(1, 0, 4), Place(2, 0, 0)):
        assert rollout_at(tmp_path, absent) is None


def test_what_is_no_trace_is_refused(tmp_path: Path) -> None:
    step_path(tmp_path, 0).write_bytes(b"nonsense")
    with pytest.raises(TraceError, match="cannot be read"):
        search(tmp_path, Wanted())
    whole = write_step(tmp_path, StepTrace(1, (group(0),)))
    pq.write_table(pq.read_table(whole).drop_columns(["status"]), step_path(tmp_path, 0))
    with pytest.raises(TraceError, match="lacks status"):
        rollout_at(tmp_path, Place(1, 0, 0))


@pytest.mark.parametrize("text", ["", "1-2", "0-1-2", "1-02-3", "1-2-3-4", "١-1-1", "-1-2-3"])
def test_what_names_no_rollout_has_no_place(text: str) -> None:
    assert Place.of(text) is None


def test_a_place_is_written_as_it_is_read() -> None:
    assert Place.of("12-3-5") == Place(12, 3, 5)
    assert str(Place(12, 3, 5)) == "12-3-5"


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=30), st.integers(0, 2**16))
def test_token_texts_joined_are_the_text_wherever_it_is_cut(text: str, seed: int) -> None:
    raw = text.encode()
    cuts = np.flatnonzero(np.random.default_rng(seed).integers(0, 2, size=len(raw))).tolist()
    parts = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    vocabulary = Vocabulary(dict(enumerate(parts)))
    texts = vocabulary.texts(range(len(parts)))
    assert len(texts) == len(parts)
    assert "".join(texts) == text


def test_a_broken_character_at_the_end_is_not_lost() -> None:
    vocabulary = Vocabulary({1: "é".encode()[:1], 2: b"a"})
    assert vocabulary.texts([2, 1]) == ["a", "\ufffd"]
    assert vocabulary.text(1) == "\ufffd"
    assert vocabulary.text(7) == ""


def test_a_vocabulary_comes_back_whole_or_in_part(tmp_path: Path) -> None:
    assert read_vocabulary(tmp_path) is None
    vocabulary = Vocabulary({0: b"<end>", 1: b"\xc3", 5: b" a"}, frozenset({0}))
    write_vocabulary(tmp_path, vocabulary)
    assert read_vocabulary(tmp_path) == vocabulary
    assert read_vocabulary(tmp_path, {5, 0, 9}) == Vocabulary(
        {0: b"<end>", 5: b" a"}, frozenset({0})
    )
