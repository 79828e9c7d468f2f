"""Tasks as models see them: spans cover every token once, and say whose it is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.config import JobSpec
from services.views import Span, shown, with_privileged
from tests.tiny_model import make_tokenizer
from trainer.records import Privileged, Task

MATH = {"kind": "math", "answer": "2"}
CHAT = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "1 + 1?"},
    {"role": "assistant", "content": "3"},
    {"role": "user", "content": "Again."},
)
TASK = Task("t", CHAT, MATH, Privileged(answer="2", trace="One and one make two."))


def job(**more: Any) -> JobSpec:
    return JobSpec.model_validate({"model": {"path": "m"}, "tasks": {"train": "t"}, **more})


def view(spec: JobSpec, task: Task = TASK) -> dict[str, Any]:
    return shown(spec, [task], make_tokenizer())[0]


def tiled(laid: dict[str, Any]) -> list[str]:
    """Whose the tokens are; the spans must lie head to tail over all of them."""
    ends = [0]
    for span in laid["spans"]:
        assert span["start"] == ends[-1]
        assert span["end"] > span["start"]
        ends.append(span["end"])
    assert ends[-1] == len(laid["ids"]) == laid["tokens"]
    assert "".join(span["text"] for span in laid["spans"]) == laid["text"]
    return [span["of"] for span in laid["spans"]]


def test_the_policys_prompt_is_cut_at_its_messages() -> None:
    laid = view(job())["policy"]
    assert tiled(laid) == ["system", "user", "assistant", "user", "assistant"]
    for span, message in zip(laid["spans"], CHAT, strict=False):
        assert message["content"] in span["text"]
    assert laid["spans"][-1]["text"] == "<|im_start|>assistant\n"


def test_what_only_the_teacher_reads_is_a_span_of_its_own() -> None:
    seen = view(job(privileged={"kind": "trace"}))
    laid = seen["teacher"]
    assert tiled(laid) == ["system", "user", "assistant", "user", "privileged", "user", "assistant"]
    (hint,) = [span for span in laid["spans"] if span["of"] == "privileged"]
    assert "One and one make two." in hint["text"]
    rest = laid["ids"][: hint["start"]] + laid["ids"][hint["end"] :]
    assert rest == seen["policy"]["ids"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"algorithm": {"kind": "grpo"}}, "grpo has no teacher"),
        ({"algorithm": {"kind": "opd", "teacher": {"path": "t"}}}, "reads the policy's prompt"),
        ({"privileged": {"kind": "sibling"}}, "made of each group's rollouts"),
    ],
)
def test_a_teacher_without_a_view_of_a_task_says_why(more: dict[str, Any], said: str) -> None:
    seen = view(job(**more))
    assert seen["teacher"] is None
    assert said in seen["teacher_note"]


@given(
    own=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    added=st.lists(st.integers(0, 3), max_size=6),
    data=st.data(),
)
def test_inserted_tokens_are_found_wherever_they_are(
    own: list[int], added: list[int], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(own)))
    border = data.draw(st.integers(0, len(own)))
    spans = [s for s in (Span("a", 0, border), Span("b", border, len(own))) if s.start < s.end]
    theirs = own[:place] + added + own[place:]
    found = with_privileged(own, spans, theirs)
    assert [(one.start, one.end) for one in found] == list(
        zip([0, *(one.end for one in found)], (one.end for one in found), strict=False)
    )
    kept = [t for one in found if one.of != "privileged" for t in theirs[one.start : one.end]]
    assert kept == own
    assert sum(one.end - one.start for one in found if one.of == "privileged") == len(added)
