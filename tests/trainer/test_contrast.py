"""Wrong counterparts: which completions make one, and for whom."""

from __future__ import annotations

import numpy as np

from trainer.contrast import chosen, counterparts
from trainer.records import Privileged, Rollout, Task
from verifiers.verdict import Verdict

TASK = Task("t", ({"role": "user", "content": "?"},), {"kind": "math"}, Privileged("4", "2 + 2"))


def rollout(text: str) -> Rollout:
    ids = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
    return Rollout(np.array([1], np.int32), ids, np.zeros(len(ids), np.float32), text, 0, "stop")


ROLLOUTS = [rollout(text) for text in ("it is 4", "it is 5", "none", "it is 6", "it is 5")]
VERDICTS = [
    Verdict(1.0, "correct", {"extracted": "4"}),
    Verdict(0.0, "wrong", {"extracted": "5"}),
    Verdict(0.0, "wrong"),
    Verdict(None, "infra_error", {"extracted": "6"}),
    Verdict(0.0, "wrong", {"extracted": "5"}),
]


def test_every_wrong_completion_stands_in_for_the_right_one() -> None:
    found = counterparts(TASK, ROLLOUTS, VERDICTS, with_answer=False)
    assert [one.index for one in found] == [1, 2, 4]
    assert found[0].task.privileged == Privileged("5", "it is 5")
    assert found[1].task.privileged == Privileged(None, "none")
    assert [v.status for v in found[0].verdicts] == ["wrong", "correct", "wrong", "wrong", "wrong"]
    assert (found[0].task.id, found[0].task.messages) == (TASK.id, TASK.messages)


def test_a_view_that_shows_an_answer_needs_one() -> None:
    found = counterparts(TASK, ROLLOUTS, VERDICTS, with_answer=True)
    assert [one.index for one in found] == [1, 4]


def test_no_completion_is_held_against_itself_or_its_copy() -> None:
    found = counterparts(TASK, ROLLOUTS, VERDICTS, with_answer=False)

    def indices(of: int, count: int) -> list[int]:
        return [one.index for one in chosen(of, ROLLOUTS, found, count)]

    assert indices(0, 1) == [1]
    assert indices(0, 3) == [1, 2, 4]
    assert indices(1, 3) == [2], "number 4 says the same"
    assert indices(2, 2) == [1, 4]
