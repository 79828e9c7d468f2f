"""The teacher's view: more context, the same completion tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from trainer.batch import assemble, split
from trainer.context_checks import unfilled
from trainer.privileged import (
    PromptError,
    TeacherView,
    completion_turn,
    privileged_turn,
    student_prompt,
    teacher_prompt,
    with_turn,
)
from trainer.records import Group, Privileged, Rollout, Task
from trainer.spec import PrivilegedSpec
from trainer.templates import PrivilegedError, check_privileged
from verifiers.verdict import Verdict

OPEN = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}[end]{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
ALTERNATING = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}" + OPEN
)


def tokenizer(chat_template: str | None) -> Any:
    """A byte-level tokeniser of 256 tokens, made here."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_only = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=bytes_only, chat_template=chat_template)


def spec_of(kind: Any, template: str | None = None) -> PrivilegedSpec:
    return PrivilegedSpec(kind=kind, template=template)


PLAIN = tokenizer(OPEN)
STRICT = tokenizer(ALTERNATING)


def task(**privileged: Any) -> Task:
    return Task(
        id="t7",
        messages=({"role": "user", "content": "What is 3 x 4?"},),
        verifier={"kind": "math", "answer": "12"},
        privileged=Privileged(**privileged),
    )


FULL = task(answer="12", trace="3 x 4 = 12", documents=("tables",))


@pytest.mark.parametrize(
    ("kind", "shown"), [("answer", "12"), ("trace", "3 x 4 = 12")], ids=["answer", "trace"]
)
def test_the_teacher_reads_the_privileged_turn_before_the_assistant_begins(
    kind: Any, shown: str
) -> None:
    text = PLAIN.decode(teacher_prompt(FULL, PLAIN, spec_of(kind)))
    assert text.startswith("[user]What is 3 x 4?\n\n")
    assert text.endswith("[end][assistant]")
    assert shown in text
    assert shown not in PLAIN.decode(student_prompt(FULL, PLAIN))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=3))
def test_kind_none_is_the_policys_own_view(contents: list[str]) -> None:
    messages = tuple({"role": "user", "content": content} for content in contents)
    one = Task("t", messages, {"kind": "math", "answer": "1"}, Privileged("1", "2", ("3",)))
    seen = teacher_prompt(one, PLAIN, spec_of("none"))
    own = student_prompt(one, PLAIN)
    assert seen.dtype == own.dtype == np.int32
    assert seen.tobytes() == own.tobytes()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 255), min_size=1, max_size=30), st.booleans())
def test_completion_tokens_are_the_same_bytes_under_both_views(ids: list[int], hint: bool) -> None:
    """Any ids, also such as no tokeniser would make of their own text."""
    completion = np.array(ids, dtype=np.int32)
    spec = spec_of("trace" if hint else "none")
    tails: list[bytes] = []
    for prompt in (student_prompt(FULL, PLAIN), teacher_prompt(FULL, PLAIN, spec)):
        logprobs = np.zeros(len(ids), dtype=np.float32)
        rollout = Rollout(prompt, completion, logprobs, "", 0, "stop")
        verdict = Verdict(1.0, "correct")
        group = Group(FULL, (rollout,), (verdict,), np.ones(1, dtype=np.float32))
        batch = assemble([group])
        tails.append(batch.tokens[int(batch.prompt_lengths[0]) :].tobytes())
        assert split(batch.engine_logprobs, batch)[0].shape == completion.shape
    assert tails[0] == tails[1] == completion.tobytes()


def test_templates_that_demand_alternating_roles_take_the_teachers_view() -> None:
    text = STRICT.decode(teacher_prompt(FULL, STRICT, spec_of("trace")))
    assert text.count("[user]") == 1


def test_after_a_turn_that_is_not_the_users_the_hint_is_a_turn_of_its_own() -> None:
    tool = Task("t", ({"role": "tool", "content": "42"},), {}, Privileged(answer="42"))
    seen = with_turn(tool.messages, "It is 42.")
    assert seen == (tool.messages[0], {"role": "user", "content": "It is 42."})


def test_a_template_may_use_every_field() -> None:
    template = "{{ answer }}|{{ trace }}|{% for d in documents %}{{ d }};{% endfor %}"
    spec = spec_of("trace", template=template)
    check_privileged(spec)
    assert privileged_turn(FULL, spec) == "12|3 x 4 = 12|tables;"


def test_text_is_not_escaped_for_html() -> None:
    spec = spec_of("answer", template="{{ answer }}")
    assert privileged_turn(task(answer="a < b & c"), spec) == "a < b & c"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{{ answr }}",
            "names answr; with privileged.kind answer it may use answer, trace, documents",
        ),
        ("{{ sibling }}", "names sibling; with privileged.kind answer it may use"),
        ("{{ answer", "is not a Jinja template"),
        ("{% for %}", "is not a Jinja template"),
        ("{{ answer | shout }}", "is not a Jinja template: No filter named 'shout'"),
    ],
)
def test_a_template_that_cannot_work_is_refused_before_any_task(
    template: str, message: str
) -> None:
    with pytest.raises(PrivilegedError, match=r"privileged\.template") as refused:
        check_privileged(spec_of("answer", template=template))
    assert message in str(refused.value)


def test_a_template_that_nobody_would_read_is_refused() -> None:
    with pytest.raises(PrivilegedError, match="shows the teacher nothing"):
        check_privileged(spec_of("none", template="{{ answer }}"))


@pytest.mark.parametrize("kind", ["answer", "trace", "documents", "sibling", "feedback", "none"])
def test_the_defaults_are_good_templates(kind: Any) -> None:
    check_privileged(spec_of(kind))


@pytest.mark.parametrize(
    "template",
    ["{{ trace }}", "{{ trace.upper() }}", "{{ answer.__class__.__mro__ }}", "{{ 1 // 0 }}"],
)
def test_a_template_that_cannot_be_filled_names_the_task(template: str) -> None:
    spec = spec_of("answer", template=template)
    with pytest.raises(PrivilegedError, match="task 't7'"):
        privileged_turn(task(answer="12"), spec)
    problems = unfilled([FULL, task(answer="12")], spec, "train.jsonl")
    assert problems
    assert all("t7" in str(problem) and "train.jsonl" in str(problem) for problem in problems)


def test_a_template_may_ask_whether_a_field_is_there() -> None:
    spec = spec_of("answer", template="{% if trace is defined %}{{ trace }}{% else %}-{% endif %}")
    assert unfilled([FULL, task(answer="12")], spec) == []
    assert privileged_turn(task(answer="12"), spec) == "-"


def test_messages_a_chat_template_refuses_are_reported_by_task() -> None:
    two = Task("t8", ({"role": "user", "content": "a"}, {"role": "user", "content": "b"}), {})
    with pytest.raises(PromptError, match=r"task 't8'.*roles must alternate"):
        student_prompt(two, STRICT)
    with pytest.raises(PromptError, match=r"task 't8'.*chat_template"):
        student_prompt(two, tokenizer(None))


def rolled(text: str) -> Rollout:
    ids = np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32)
    return Rollout(
        student_prompt(FULL, PLAIN), ids, np.zeros(len(ids), np.float32), text, 0, "stop"
    )


RIGHT, WRONG = Verdict(1.0, "correct"), Verdict(0.0, "wrong", {"extracted": "13"})
BROKEN = Verdict(None, "infra_error", {"reason": "worker died"})


def group_views(kind: Any, group: list[tuple[str, Verdict]], **options: Any) -> list[str | None]:
    view = TeacherView(spec_of(kind), PLAIN, **options)
    prompts = view.of_group(FULL, [rolled(t) for t, _ in group], [v for _, v in group])
    return [None if prompt is None else PLAIN.decode(prompt.ids) for prompt in prompts]


def test_a_sibling_is_a_correct_rollout_that_is_not_the_completion_itself() -> None:
    own = "[user]What is 3 x 4?[end][assistant]"
    views = group_views("sibling", [("bad", WRONG), ("one", RIGHT), ("two", RIGHT)])
    shown = ["one", "two", "one"]
    for view, sibling in zip(views, shown, strict=True):
        assert view is not None
        assert f"A correct response is:\n{sibling}\n" in view
        assert "The correct answer is: 12" in view
        assert view != own


def test_a_completion_without_a_sibling_has_no_view() -> None:
    assert group_views("sibling", [("bad", WRONG), ("worse", WRONG)]) == [None, None]
    bad, alone, broken = group_views("sibling", [("bad", WRONG), ("one", RIGHT), ("x", BROKEN)])
    assert alone is None, "its own success is not a sibling's"
    assert bad is not None
    assert broken is not None


def test_a_copy_of_the_completion_is_no_sibling() -> None:
    assert group_views("sibling", [("one", RIGHT), ("one", RIGHT)]) == [None, None]


def test_feedback_is_shown_to_what_failed_and_a_sibling_beside_it() -> None:
    bad, one, broken = group_views("feedback", [("bad", WRONG), ("one", RIGHT), ("x", BROKEN)])
    assert bad is not None
    assert "verdict: wrong\nextracted: 13" in bad
    assert "A correct response is:\none" in bad
    assert one is None, "neither feedback nor another success"
    assert broken is not None
    assert "worker died" not in broken, "a fault of ours is no feedback"
    (only,) = group_views("feedback", [("bad", WRONG)])
    assert only is not None
    assert "A correct response" not in only


def test_the_text_of_a_groups_view_can_be_shown_without_a_tokeniser() -> None:
    rollouts, verdicts = [rolled("bad"), rolled("one")], [WRONG, RIGHT]
    for kind in ("sibling", "feedback", "trace"):
        views = TeacherView(spec_of(kind), PLAIN).of_group(FULL, rollouts, verdicts)
        for index, view in enumerate(views):
            turn = completion_turn(index, FULL, rollouts, verdicts, spec_of(kind))
            assert bool(turn) == (view is not None)
            assert view is None or turn in PLAIN.decode(view.ids)


@pytest.mark.parametrize("kind", ["sibling", "feedback"])
def test_a_task_alone_has_no_view_of_a_group(kind: Any) -> None:
    assert privileged_turn(FULL, spec_of(kind)) == ""
    with pytest.raises(PrivilegedError, match="made of a group's rollouts"):
        TeacherView(spec_of(kind), PLAIN).of_task(FULL)


def test_kinds_of_the_task_give_every_rollout_the_same_prompt() -> None:
    view = TeacherView(spec_of("trace"), PLAIN)
    prompts = view.of_group(FULL, [rolled("a"), rolled("b")], [RIGHT, WRONG])
    assert prompts[0] is prompts[1]
    assert prompts[0] is not None
    assert prompts[0].ids.tobytes() == teacher_prompt(FULL, PLAIN, spec_of("trace")).tobytes()


LONG = task(answer="12", trace="BEGIN " + "x" * 5000 + " END")


def test_what_does_not_fit_is_told_or_shortened_in_the_middle_and_counted() -> None:
    whole = TeacherView(spec_of("trace"), PLAIN).of_task(LONG)
    assert (whole.fits, whole.left_out) == (True, 0)
    refused = TeacherView(spec_of("trace"), PLAIN, room=400).of_task(LONG)
    assert not refused.fits
    cut = TeacherView(spec_of("trace"), PLAIN, room=400, shorten=True).of_task(LONG)
    assert cut.fits
    assert 390 <= len(cut.ids) <= 400, "as much is kept as fits"
    text = PLAIN.decode(cut.ids)
    assert text.startswith("[user]What is 3 x 4?\n\nA correct response is:\nBEGIN xx")
    assert text.endswith("xx END[end][assistant]")
    assert f"[... {cut.left_out} characters left out ...]" in text
    assert cut.left_out + text.count("x") - "What is 3 x 4?".count("x") == 5000


def test_a_budget_bounds_what_the_turn_adds_to_the_prompt() -> None:
    spec = PrivilegedSpec(kind="trace", max_tokens=200)
    added = len(TeacherView(spec, PLAIN, shorten=True).of_task(LONG).ids)
    assert 190 <= added - len(student_prompt(LONG, PLAIN)) <= 200


def test_what_does_not_fit_even_shortened_is_told() -> None:
    view = TeacherView(spec_of("trace"), PLAIN, room=60, shorten=True)
    assert not view.of_task(LONG).fits
    assert not TeacherView(spec_of("none"), PLAIN, room=10, shorten=True).of_task(FULL).fits


def test_a_sibling_that_does_not_fit_gives_no_view_unless_shortened() -> None:
    group = [("bad", WRONG), ("y" * 2000, RIGHT)]
    assert group_views("sibling", group, room=500) == [None, None]
    short, _ = group_views("sibling", group, room=500, shorten=True)
    assert short is not None
    assert "characters left out" in short


def test_images_stay_in_the_teachers_view_and_the_turn_is_a_text_part() -> None:
    image = {"type": "image_url", "image_url": {"url": "file:///a.png"}}
    asked = {"role": "user", "content": [image, {"type": "text", "text": "What is it?"}]}
    one = Task("t", (asked,), {}, Privileged(answer="a cat"))
    (seen,) = with_turn(one.messages, privileged_turn(one, spec_of("answer")))
    assert seen["content"] == [
        *asked["content"],
        {"type": "text", "text": "\n\nThe correct answer is: a cat"},
    ]
    assert len(asked["content"]) == 2, "the task itself is not changed"


@pytest.mark.parametrize("template", ["", "  \n", "{% if answer is not defined %}hint{% endif %}"])
def test_an_empty_hint_leaves_the_policys_own_view(template: str) -> None:
    seen = teacher_prompt(FULL, PLAIN, spec_of("answer", template=template))
    assert seen.tobytes() == student_prompt(FULL, PLAIN).tobytes()
