"""The leak monitor: finds what refers to an unseen reference, and leaves honest work alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.config import JobSpec
from trainer import leakage
from trainer.leakage import Leaks, LeakWatch
from trainer.records import Group, Privileged, Rollout, Task
from verifiers.verdict import Verdict

TRACE = "Four boxes hold six apples each, so that there are twenty four apples in all."
MANY = 100
WORK = "Each box has six apples and there are four boxes, therefore we multiply and obtain 24 ."


def task(question: str = "How many apples?", **privileged: Any) -> Task:
    privileged = privileged or {"answer": "24", "trace": TRACE}
    verifier = {"kind": "math", "answer": "24"}
    message = {"role": "user", "content": question}
    return Task("t", (message,), verifier, Privileged(**privileged))


def group(task: Task, texts: Sequence[str], right: Sequence[bool] = ()) -> Group:
    """The task's completions, judged; wrong where nothing else is said."""
    none, ids = np.zeros(0, np.float32), np.zeros(0, np.int32)
    rollouts = tuple(Rollout(ids, ids, none, text, 0, "stop") for text in texts)
    right = [*right, *[False] * len(texts)][: len(texts)]
    verdicts = tuple(Verdict(float(r), "correct" if r else "wrong") for r in right)
    return Group(task, rollouts, verdicts, np.zeros(len(texts), np.float32))


def many(texts: Sequence[str], right: Sequence[bool] = ()) -> list[Group]:
    """The same completions of MANY tasks."""
    return [group(task(), texts, right) for _ in range(MANY)]


def allowed(before: int, now: int) -> float:
    """The rise that so many tasks which agree cannot tell from none."""
    return leakage.SURE * math.hypot(0.5 / before, 0.5 / now)


def measure(cases: Sequence[tuple[Task, Sequence[str]]], patterns: Sequence[str] = ()) -> Leaks:
    return leakage.measure([group(task, texts) for task, texts in cases], patterns)


@pytest.mark.parametrize(
    "text",
    [
        "Following the reference solution, we add.",
        "The provided answer tells us that x is 3.",
        "According to the solution, there are 24.",
        "As shown in the reference the sum is 24.",
        "The hint says that it is even.",
        "From the answer key: 24.",
        "We are told that the answer is 24.",
        "Since the correct answer is 24, we need four boxes.",
        "We know the answer is 24.",
        "We multiply to match the expected result.",
        "THE GIVEN SOLUTION is right.",
    ],
)
def test_a_reference_to_what_the_policy_cannot_see_is_found(text: str) -> None:
    assert measure([(task(), [text])]).reference.mean == 1.0


@pytest.mark.parametrize(
    "text",
    [
        WORK,
        "The correct answer is 24.",
        "Given the total, the answer is 24.",
        "Because there are four boxes, the answer is 24.",
        "The solution is x = 3.",
        "Let me check the answer: 4 x 6 = 24.",
        "Therefore, the expected value is 24.",
        "",
    ],
)
def test_the_ordinary_words_of_a_solution_are_no_leak(text: str) -> None:
    assert not any(measure([(task(), [text])]).told().values())


def test_a_phrase_of_the_prompt_may_be_repeated() -> None:
    asked = task("Is the given solution right?", answer="no")
    assert measure([(asked, ["The given solution is right."])]).reference.mean == 0.0


def test_a_jobs_own_patterns_are_added() -> None:
    texts = ["Per manual section 7 we stop.", WORK]
    assert measure([(task(), texts)]).reference.mean == 0.0
    assert measure([(task(), texts)], ["manual SECTION [0-9]+"]).reference.mean == 0.5


def test_an_answer_before_the_work_is_found_and_one_after_it_is_not() -> None:
    first = f"The answer is 24. {WORK}"
    assert measure([(task(), [first, WORK])]).early_answer.mean == 0.5


def test_an_answer_without_work_or_out_of_the_prompt_is_no_early_answer() -> None:
    assert measure([(task(), ["The answer is 24."])]).early_answer.mean == 0.0
    known = task("Is it 24?")
    assert measure([(known, [f"It is 24. {WORK}"])]).early_answer.mean == 0.0
    letter = task(answer="a")
    assert measure([(letter, [f"Take a look. {WORK}"])]).early_answer.mean == 0.0


def test_overlap_is_the_share_of_word_5_grams_out_of_the_privileged_text() -> None:
    assert measure([(task(), [TRACE])]).overlap.mean == 1.0
    assert measure([(task(), [WORK])]).overlap.mean == 0.0
    half = "so that there are twenty four green pears"  # four grams, two of the trace
    assert measure([(task(), [half])]).overlap.mean == 0.5
    assert measure([(task(), [TRACE, WORK])]).overlap.mean == 0.5


def test_what_the_prompt_says_too_is_no_overlap() -> None:
    assert measure([(task(TRACE), [TRACE])]).overlap.mean == 0.0


def test_a_task_without_privileged_text_has_no_overlap() -> None:
    bare = Task("t", ({"role": "user", "content": "?"},), {"kind": "text", "regex": "x"})
    assert measure([(bare, [WORK])]).overlap.tasks == 0


@given(st.lists(st.text(max_size=80), max_size=4), st.text(max_size=40))
def test_rates_lie_between_0_and_1_for_any_text(texts: list[str], answer: str) -> None:
    leaks = measure([(task(answer=answer), texts)])
    assert all(0 <= rate <= 1 for rate in leaks.told().values())


def test_a_job_is_measured_against_its_first_step_also_after_a_resume(tmp_path: Path) -> None:
    file = tmp_path / "traces" / "leakage.json"
    watch = LeakWatch(file)
    first = watch.metrics(many([TRACE, WORK]))
    assert first == {
        "leak_reference": 0.0,
        "leak_early_answer": 0.0,
        "leak_overlap": 0.5,
        "leak_rise": 0.0,
    }
    resumed = LeakWatch(file)
    risen = resumed.metrics(many([TRACE, TRACE]))["leak_rise"]
    assert risen == pytest.approx(0.5 - allowed(MANY, MANY))
    assert resumed.metrics(many([WORK]))["leak_rise"] == 0.0, "a fall is no leak"
    told = resumed.metrics(many(["The hint says 24."]))
    assert told["leak_reference"] == 1.0
    assert told["leak_rise"] == pytest.approx(1.0 - allowed(MANY, MANY))


def test_a_policy_that_answers_right_more_often_does_not_leak_by_that(tmp_path: Path) -> None:
    watch = LeakWatch(tmp_path / "leakage.json")
    watch.metrics(many([TRACE, WORK, WORK], [True]))
    learned = watch.metrics(many([TRACE, TRACE, WORK], [True, True]))
    assert (round(learned["leak_overlap"], 2), learned["leak_rise"]) == (0.67, 0.0)
    copied = watch.metrics(many([TRACE, TRACE, WORK], [True]))["leak_rise"]
    assert copied == pytest.approx(0.5 - allowed(MANY, MANY)), "wrong completions began to copy"


def test_what_another_draw_of_tasks_does_is_no_leak(tmp_path: Path) -> None:
    texts = [[TRACE, WORK][n % 2] for n in range(MANY)]
    watch = LeakWatch(tmp_path / "leakage.json")
    watch.metrics(many([WORK]))
    assert watch.metrics([group(task(), [TRACE])])["leak_rise"] == 0.0, "one task is no proof"
    assert watch.metrics([group(task(), [text]) for text in texts[:6]])["leak_rise"] == 0.0
    risen = watch.metrics([group(task(), [text]) for text in texts])["leak_rise"]
    assert 0.3 < risen < 0.5, "half of the completions copy, and a hundred tasks say so"


def test_a_pattern_that_cannot_be_matched_in_linear_time_is_refused_by_the_job() -> None:
    data = {"model": {"path": "m"}, "tasks": {"train": "t"}, "leakage": {"patterns": [r"(a)\1"]}}
    with pytest.raises(ValueError, match=r"leakage\.patterns[\s\S]*no RE2 pattern"):
        JobSpec.model_validate(data)
