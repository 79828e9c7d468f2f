"""From verdicts to advantages, and from evidence to a batch."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.algorithm_spec import Grpo, Opsd
from trainer.batch import BatchError
from trainer.evidence import Evidence, taught_batch
from trainer.records import Group, Rollout, Task
from trainer.rewards import judged_group
from verifiers.verdict import Verdict

TASK = Task("t", ({"role": "user", "content": "?"},), {"kind": "math"})


def rollout(length: int) -> Rollout:
    ids = np.arange(length, dtype=np.int32)
    return Rollout(np.array([1, 2], np.int32), ids, np.zeros(length, np.float32), "", 0, "stop")


def group(algorithm: Grpo | Opsd, lengths: tuple[int, ...] = (2, 4, 10)) -> Group:
    verdicts = [Verdict(1.0, "correct"), Verdict(None, "infra_error"), Verdict(0.0, "wrong")]
    return judged_group(TASK, [rollout(n) for n in lengths], verdicts, algorithm, 10)


def test_a_fault_of_ours_is_no_reward() -> None:
    found = group(Grpo(normalize_std=False)).advantages
    assert found.tolist() == [0.5, 0.0, -0.5]


def test_length_costs_reward_only_inside_the_buffer() -> None:
    found = group(Grpo(normalize_std=False, overlong_buffer=4)).advantages
    assert found.tolist() == [1.0, 0.0, -1.0], "ten tokens of ten lose one"
    short = group(Grpo(normalize_std=False, overlong_buffer=4), (2, 4, 6)).advantages
    assert short.tolist() == [0.5, 0.0, -0.5]


def test_a_completion_without_evidence_is_in_the_batch_and_not_taught() -> None:
    judged = group(Opsd())
    said = Evidence(
        7,
        np.full(2, -1, np.float32),
        top_ids=np.ones((2, 3), np.int32),
        top_logprobs=np.full((2, 3), -2, np.float32),
    )
    batch = taught_batch([judged], [said, None])
    assert batch.is_taught.tolist() == [True, False]
    assert batch.completion_lengths.tolist() == [2, 10], "the fault of ours is left out"
    assert batch.teacher_logprobs is not None
    assert batch.teacher_logprobs.tolist() == [-1.0] * 2 + [0.0] * 10
    assert batch.top_ids is not None
    assert batch.top_ids.shape == (12, 3)
    assert batch.contrast_logprobs is None


def test_a_batch_of_which_nothing_is_taught_still_has_its_streams() -> None:
    batch = taught_batch([group(Opsd())], [None, None])
    assert batch.teacher_logprobs is not None
    assert not batch.is_taught.any()


def test_evidence_that_does_not_fit_its_completion_is_refused() -> None:
    said = Evidence(7, np.zeros(3, np.float32))
    with pytest.raises(BatchError, match=r"teacher_logprobs, sequence 0: shape \(3,\) for 2"):
        taught_batch([group(Opsd())], [said, None])
