"""RLSD's credit inside verl, by verl's own registry and its own `compute_advantage`.

verl wants other versions of some packages: examples/verl/requirements.txt, in a folder before
this environment's. `make test` has it and runs this file in a process of its own.
"""

from __future__ import annotations

import runpy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

if find_spec("verl") is None:
    # Only then: a verl that does not import is a failure.
    pytest.skip("verl is not on the path", allow_module_level=True)

EXAMPLE = Path(__file__).parents[1] / "examples" / "verl" / "rlsd.py"
MASK = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 1], [1, 1, 1]])


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLE))


def batch() -> Any:
    """Two groups of two; the first has contrast."""
    from verl import DataProto  # pyright: ignore

    rewards = torch.zeros(4, 3)
    rewards[0, 2] = 1.0
    prompts = torch.tensor([[0, 7], [0, 7], [8, 9], [8, 9]])
    responses = torch.tensor([[1, 2, 3], [4, 5, 0], [1, 1, 1], [2, 2, 2]])
    return DataProto.from_dict(
        tensors={
            "token_level_rewards": rewards,
            "response_mask": MASK,
            "old_log_probs": torch.full((4, 3), -1.0),
            "prompts": prompts,
            "responses": responses,
            "attention_mask": torch.cat([(prompts != 0).long(), MASK], dim=1),
        },
        non_tensors={"uid": np.array(["a", "a", "b", "b"], dtype=object)},
    )


def advantages(data: Any, name: str) -> torch.Tensor:
    from verl.trainer.ppo.ray_trainer import (  # pyright: ignore
        compute_advantage,
    )

    return compute_advantage(data, adv_estimator=name, config={}).batch["advantages"]


def test_evidence_spreads_grpos_advantages_within_the_clip(example: dict[str, Any]) -> None:
    delta = torch.tensor([[0.1, -0.1, 9.0], [0.1, -9.0, 0.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    data = batch()
    example["add_evidence"](data, data.batch["old_log_probs"] + delta)
    found, plain = advantages(data, "rlsd"), advantages(batch(), "grpo")
    e = float(np.exp(0.1))
    factors = torch.tensor(
        [[1 + 0.5 * (e - 1), 1 + 0.5 * (1 / e - 1), 1.1], [1 + 0.5 * (1 / e - 1), 1.1, 1.0]]
    )
    assert torch.allclose(found[:2], plain[:2] * factors, atol=1e-5)
    assert (found[2:] == 0).all(), "a group without contrast teaches nothing"
    assert found[1, 2] == 0, "no credit beyond the end"


def test_without_evidence_rlsd_is_grpo(example: dict[str, Any]) -> None:
    data = batch()
    example["add_evidence"](data, data.batch["old_log_probs"])
    assert torch.equal(advantages(data, "rlsd"), advantages(batch(), "grpo"))


def test_a_batch_without_evidence_is_refused(example: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="rlsd needs evidence"):
        advantages(batch(), "rlsd")


def test_the_teacher_scores_the_same_responses_after_its_own_prompts(
    example: dict[str, Any],
) -> None:
    data = batch()
    seen = example["privileged_batch"](data, [[5, 6, 7], [7], [8, 9], [9]], 0).batch
    assert torch.equal(seen["responses"], data.batch["responses"])
    assert torch.equal(seen["input_ids"][:, 3:], data.batch["responses"])
    assert seen["prompts"].tolist() == [[5, 6, 7], [0, 0, 7], [0, 8, 9], [0, 0, 9]]
    assert torch.equal(seen["attention_mask"][:, 3:], MASK)
    assert seen["attention_mask"][:, :3].sum(1).tolist() == [3, 1, 2, 1]
    first_response = seen["position_ids"][:, 3]
    assert first_response.tolist() == [3, 1, 2, 1], "positions count what is not padding"
