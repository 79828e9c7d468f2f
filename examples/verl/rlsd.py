"""RLSD's credit as an advantage estimator of verl.

Importing this file registers it; `algorithm.adv_estimator=rlsd` then names it. verl hands an
estimator of any name the rewards, the response mask, the group of each row, and one optional
tensor, `reward_baselines`: in it the evidence travels. In a trainer's loop, once the old
log-probs of the batch are there and before `compute_advantage`:

    hints = [privileged_prompt_ids(row) for row in batch]          # int64[P'], e.g. by
    teacher = privileged_batch(batch, hints, pad_token_id)         # trainer.privileged
    scored = actor_rollout_wg.compute_log_prob(teacher)
    add_evidence(batch, scored.batch["old_log_probs"])
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from verl import DataProto  # pyright: ignore
from verl.trainer.ppo.core_algos import (  # pyright: ignore
    compute_grpo_outcome_advantage,
    register_adv_est,
)

from trainer.credit import token_weights

MIX, CLIP = 0.5, 0.2  # of Algorithm 1 in arXiv 2604.03128; there MIX falls to 0 over 50 steps


@register_adv_est("rlsd")
def rlsd(
    token_level_rewards: Tensor,
    response_mask: Tensor,
    index: np.ndarray,
    reward_baselines: Tensor | None = None,
    config: Any = None,
    **others: Any,
) -> tuple[Tensor, Tensor]:
    """GRPO's advantages, spread over the tokens by evidence float32[B, T]; all are [B, T]."""
    by_std = True if config is None else config.get("norm_adv_by_std_in_grpo", True)
    advantages, _ = compute_grpo_outcome_advantage(
        token_level_rewards, response_mask, index, norm_adv_by_std_in_grpo=by_std
    )
    if reward_baselines is None:
        raise ValueError("rlsd needs evidence: call add_evidence(batch, teacher_log_probs) first")
    credit = advantages * token_weights(advantages, reward_baselines, mix=MIX, clip=CLIP)
    return credit, credit


def add_evidence(data: DataProto, teacher_log_probs: Tensor) -> None:
    """Put log p_teacher - log p_student, float32[B, T], where the estimator is given it."""
    data.batch["reward_baselines"] = teacher_log_probs - data.batch["old_log_probs"]


def privileged_batch(
    data: DataProto, prompts: Sequence[Sequence[int]], pad_token_id: int
) -> DataProto:
    """The same responses after other prompts: what the teacher is asked to score.

    Prompts are padded on the left, as verl's own; the responses are the same tensor.
    """
    responses = data.batch["responses"]
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), pad_token_id, dtype=responses.dtype)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt, dtype=ids.dtype)
        mask[row, width - len(prompt) :] = 1
    response_mask = data.batch["attention_mask"][:, -responses.shape[1] :].to(mask.dtype)
    attention_mask = torch.cat([mask, response_mask], dim=1)
    tensors = {
        "prompts": ids,
        "responses": responses,
        "input_ids": torch.cat([ids, responses], dim=1),
        "attention_mask": attention_mask,
        "position_ids": (attention_mask.cumsum(1) - 1).clamp(min=0),
    }
    return DataProto.from_dict(tensors=tensors, meta_info=dict(data.meta_info))
