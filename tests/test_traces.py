"""Traces and batches: what was rolled out comes back bit for bit."""

from __future__ import annotations

import dataclasses
import tempfile
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.trace_batch import to_batch
from services.traces import (
    StepTrace,
    TraceError,
    read_job,
    read_step,
    step_path,
    step_paths,
    write_job,
    write_step,
)
from trainer.batch import BatchError, assemble, learnable, split
from trainer.records import Group, Privileged, Rollout, Task
from trainer.spans import span_mask
from verifiers.verdict import Verdict


def rollout(prompt: list[int], completion: list[int], text: str = "x") -> Rollout:
    return Rollout(
        prompt_ids=np.array(prompt, dtype=np.int32),
        completion_ids=np.array(completion, dtype=np.int32),
        logprobs=np.linspace(-3, 0, len(completion), dtype=np.float32),
        text=text,
        version=7,
        finish_reason="stop",
    )


def task(name: str = "t") -> Task:
    return Task(
        id=name,
        messages=({"role": "user", "content": "3 × 4? <&>"},),
        verifier={"kind": "math", "answer": "12"},
        privileged=Privileged(answer="12", trace="3 × 4 = 12", documents=("d1", "d2")),
    )


FAULT = Verdict(None, "infra_error", {"reason": "worker died"})
RIGHT = Verdict(1.0, "correct", {"expected": "12", "nested": {"lone": "\ud800"}}, 1.5, 2.5)
WRONG = Verdict(0.0, "wrong", {"got": None})


def same(a: Any, b: Any) -> bool:
    """Equality that looks into records and demands equal types and bytes of arrays."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if dataclasses.is_dataclass(a):
        fields = dataclasses.fields(a)
        return type(a) is type(b) and all(
            same(getattr(a, f.name), getattr(b, f.name)) for f in fields
        )
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


token_ids = st.lists(st.integers(0, 2**31 - 1), max_size=5)


@st.composite
def groups(draw: st.DrawFn) -> tuple[Group, ...]:
    def group(index: int) -> Group:
        prompt = draw(st.lists(st.integers(0, 99), min_size=1, max_size=4))
        completions = draw(st.lists(token_ids, min_size=1, max_size=4))
        verdicts = tuple(draw(st.sampled_from([FAULT, RIGHT, WRONG])) for _ in completions)
        numbers = st.floats(-3, 3, width=32)
        return Group(
            task=task(f"t{index}"),
            rollouts=tuple(rollout(prompt, c, draw(st.text(max_size=9))) for c in completions),
            verdicts=verdicts,
            advantages=np.array(
                [np.nan if v is FAULT else draw(numbers) for v in verdicts], dtype=np.float32
            ),
        )

    return tuple(group(index) for index in range(draw(st.integers(1, 3))))


@settings(max_examples=60, deadline=None)
@given(groups(), st.booleans(), st.integers(0, 10**6))
def test_a_step_comes_back_bit_for_bit(
    stepped: tuple[Group, ...], with_teacher: bool, step: int
) -> None:
    where = learnable(stepped)
    tokens = sum(len(stepped[g].rollouts[r].completion_ids) for g, r in where)
    trace = StepTrace(step, stepped)
    if with_teacher and where:
        noise = np.random.default_rng(step).normal(size=(3, tokens)).astype(np.float32)
        trace = StepTrace(
            step,
            stepped,
            teacher_logprobs=noise[0],
            student_logprobs=noise[1],
            credit=noise[2],
            span_mask=noise[0] > 0,
            teacher_prompt_lengths=np.arange(len(where), dtype=np.int32),
        )
    with tempfile.TemporaryDirectory() as folder:
        assert same(read_step(write_step(folder, trace)), trace)


@settings(max_examples=60, deadline=None)
@given(groups())
def test_a_batch_holds_exactly_the_judged_tokens_in_order(stepped: tuple[Group, ...]) -> None:
    where = learnable(stepped)
    if not where:
        with pytest.raises(BatchError, match="judged completion"):
            assemble(stepped)
        return
    batch = assemble(stepped)
    assert np.isfinite(batch.advantages).all()
    start = 0
    kept = [stepped[g].rollouts[r] for g, r in where]
    logprobs = split(batch.engine_logprobs, batch)
    for index, one in enumerate(kept):
        sequence = batch.tokens[start : start + batch.lengths[index]]
        cut = batch.prompt_lengths[index]
        assert sequence[:cut].tolist() == one.prompt_ids.tolist()
        assert sequence[cut:].tolist() == one.completion_ids.tolist()
        assert logprobs[index].tolist() == one.logprobs.tolist()
        start += batch.lengths[index]
    assert start == len(batch.tokens)
    assert [stepped[g].verdicts[r].status for g, r in where].count("infra_error") == 0


def two_groups() -> tuple[Group, ...]:
    advantages = np.array([1.0, np.nan, -1.0], dtype=np.float32)
    rollouts = (rollout([1, 2], [3, 4]), rollout([1, 2], [5]), rollout([1, 2], [6, 7, 8]))
    first = Group(task(), rollouts, (RIGHT, FAULT, WRONG), advantages)
    second = Group(task("u"), (rollout([9], [9]),), (RIGHT,), np.zeros(1, dtype=np.float32))
    return first, second


def test_an_infra_error_never_reaches_the_batch() -> None:
    batch = assemble(two_groups())
    assert batch.advantages.tolist() == [1.0, -1.0, 0.0]
    assert batch.completion_lengths.tolist() == [2, 3, 1]
    assert 5 not in batch.tokens


def test_an_advantage_that_is_not_finite_is_refused_by_task() -> None:
    first, second = two_groups()
    broken = dataclasses.replace(first, verdicts=(RIGHT, RIGHT, WRONG))
    with pytest.raises(BatchError, match=r"task 't', rollout 1: advantage nan"):
        assemble([broken, second])


def test_teacher_logprobs_must_fit_their_completions() -> None:
    right = [np.zeros(n, dtype=np.float32) for n in (2, 3, 1)]
    batch = assemble(two_groups(), teacher_logprobs=right)
    assert batch.teacher_logprobs is not None
    assert batch.teacher_logprobs.shape == (6,)
    with pytest.raises(BatchError, match=r"sequence 1: shape \(2,\) for 3"):
        assemble(two_groups(), teacher_logprobs=[right[0], right[0], right[2]])
    with pytest.raises(BatchError, match="2 arrays for 3 sequences"):
        assemble(two_groups(), teacher_logprobs=right[:2])
    with pytest.raises(BatchError, match="not finite"):
        assemble(two_groups(), teacher_logprobs=[right[0], right[1], np.array([np.nan])])


def test_the_batch_of_a_trace_is_the_batch_that_was_learned(tmp_path: Any) -> None:
    stepped = two_groups()
    teacher = [np.full(n, -n, dtype=np.float32) for n in (2, 3, 1)]
    spans = [np.arange(n) > 0 for n in (2, 3, 1)]
    batch = assemble(stepped, teacher, spans)
    trace = StepTrace(
        3, stepped, teacher_logprobs=batch.teacher_logprobs, span_mask=batch.span_mask
    )
    assert same(to_batch(read_step(write_step(tmp_path, trace))), batch)


def test_token_weights_are_credit_over_advantage_and_null_without_a_verdict(tmp_path: Any) -> None:
    credit = np.array([1.2, 0.8, -0.5, -1.5, -1.0, 0.0], dtype=np.float32)
    path = write_step(tmp_path, StepTrace(0, two_groups(), credit=credit))
    weights = pq.read_table(path).column("token_weights").to_pylist()
    assert weights[1] is None
    expected = [*np.array([1.2, 0.8], dtype=np.float32), 0.5, 1.5, 1.0, 1.0]
    assert [*weights[0], *weights[2], *weights[3]] == expected


def test_arrays_of_another_length_are_refused_and_leave_no_file(tmp_path: Any) -> None:
    with pytest.raises(TraceError, match="credit has shape"):
        write_step(tmp_path, StepTrace(0, two_groups(), credit=np.zeros(5, dtype=np.float32)))
    assert list(tmp_path.iterdir()) == []


def test_steps_are_listed_in_order_and_a_rerun_replaces_its_file(tmp_path: Any) -> None:
    for step in (10, 2, 2):
        write_step(tmp_path, StepTrace(step, two_groups()))
    assert step_paths(tmp_path) == [step_path(tmp_path, 2), step_path(tmp_path, 10)]
    assert len(list(tmp_path.iterdir())) == 2


def test_the_job_is_kept_beside_its_steps(tmp_path: Any) -> None:
    write_job(tmp_path / "new", {"name": "demo", "steps": 3})
    assert read_job(tmp_path / "new") == {"name": "demo", "steps": 3}
    with pytest.raises(TraceError, match=r"job\.json: cannot be read"):
        read_job(tmp_path)


def test_a_file_that_is_no_trace_is_refused(tmp_path: Any) -> None:
    path = tmp_path / "step-000000.parquet"
    with pytest.raises(TraceError, match="cannot be read"):
        read_step(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(TraceError, match="is not Parquet"):
        read_step(path)
    whole = write_step(tmp_path, StepTrace(1, two_groups()))
    pq.write_table(pq.read_table(whole).drop_columns(["credit"]), path)
    with pytest.raises(TraceError, match="it lacks credit"):
        read_step(path)


def pieces_decoder(pieces: list[str]) -> Any:
    return lambda ids: "".join(pieces[i] for i in ids)


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "a", "<", "think", "bc", ">"]), max_size=12),
    st.integers(0, 2**16),
)
def test_a_span_is_what_lies_between_its_tags_however_they_are_cut(
    parts: list[str], seed: int
) -> None:
    text = "".join(parts)
    cuts = np.random.default_rng(seed).integers(0, 2, size=max(len(text) - 1, 0))
    pieces = [""]
    for position, character in enumerate(text):
        if position and cuts[position - 1]:
            pieces.append("")
        pieces[-1] += character
    pieces = [piece for piece in pieces if piece]
    mask = span_mask([], list(range(len(pieces))), "think", pieces_decoder(pieces))
    inside = [False] * len(text)
    at = 0
    while (opened := text.find("<think>", at)) >= 0:
        begin = opened + len("<think>")
        end = text.find("</think>", begin)
        for position in range(begin, len(text) if end < 0 else end):
            inside[position] = True
        if end < 0:
            break
        at = end + len("</think>")
    start = 0
    for piece, masked in zip(pieces, mask.tolist(), strict=True):
        if masked:
            assert all(inside[start : start + len(piece)])
        if len(piece) == 1:
            assert masked == inside[start]
        start += len(piece)


def test_a_prompt_that_ends_in_the_open_tag_starts_the_span() -> None:
    pieces = ["<think>", "\n", "why", "</", "think", ">", "so"]
    decode = pieces_decoder(pieces)
    assert span_mask([0, 1], [2, 3, 4, 5, 6], "think", decode).tolist() == [True] + [False] * 4
    assert not span_mask([6], [2, 3, 4, 5, 6], "think", decode).any()


def test_a_multi_token_character_does_not_move_the_border() -> None:
    raw = "é<t>é</t>é".encode()

    def decode(ids: Any) -> str:
        return bytes(ids).decode("utf-8", errors="replace")

    mask = span_mask([], list(raw), "t", decode)
    assert bytes(byte for byte, inside in zip(raw, mask, strict=True) if inside) == "é".encode()
