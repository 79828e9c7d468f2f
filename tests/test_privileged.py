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
from trainer.privileged import (
    PrivilegedError,
    PromptError,
    check_privileged,
    privileged_turn,
    student_prompt,
    teacher_messages,
    teacher_prompt,
    unfilled,
)
from trainer.records import Group, Privileged, Rollout, Task
from trainer.spec import PrivilegedSpec
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
    seen = teacher_messages(tool, spec_of("answer", template="It is {{ answer }}."))
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
        ("{{ answr }}", "names answr; it may use answer, trace, documents"),
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


@pytest.mark.parametrize("kind", ["answer", "trace", "none"])
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
