"""RLSD's credit inside TRL's GRPOTrainer: `pip install 'strop[trl]'`.

The trainer's own rollouts and rewards, and one more forward: the same model on the same
completion tokens, after a prompt that also holds the data set's column `privileged`. The
difference of log-probs spreads each completion's advantage over its tokens; TRL's loss takes
advantages by token as they are. One process or several, text models.
"""

from typing import Any

import torch
from torch import Tensor
from trl import GRPOTrainer  # pyright: ignore
from trl.trainer.utils import pad  # pyright: ignore

from trainer.credit import token_weights
from trainer.privileged import with_turn


class RlsdTrainer(GRPOTrainer):
    """GRPOTrainer with RLSD's credit (arXiv 2604.03128, Algorithm 1)."""

    mix, clip, mix_decay_steps = 0.5, 0.2, 50

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super()._generate_and_score_completions(inputs)
        student = self._logprobs(batch["prompt_ids"], batch["prompt_mask"], batch)
        teacher = self._logprobs(*self._privileged_prompts(inputs), batch)
        mix = self.mix * max(0.0, 1 - self.state.global_step / self.mix_decay_steps)
        advantages = batch["advantages"].unsqueeze(1)
        weights = token_weights(advantages, teacher - student, mix=mix, clip=self.clip)
        batch["advantages"] = advantages * weights
        policy: Any = self.model
        mode = "train" if policy.training else "eval"
        self._metrics[mode]["rlsd/weight_spread"].append((weights - 1).abs().mean().item())
        return batch

    def _privileged_prompts(self, inputs: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
        """int64[B, P'] and its mask, padded on the left."""
        tokenizer: Any = self.processing_class
        ids = [
            tokenizer.apply_chat_template(
                list(with_turn(tuple(row["prompt"]), row["privileged"])),
                add_generation_prompt=True,
                return_dict=False,
            )
            for row in inputs
        ]
        rows = [torch.tensor(row, device=self.accelerator.device) for row in ids]
        mask = pad([torch.ones_like(row) for row in rows], padding_value=0, padding_side="left")
        return pad(rows, padding_value=tokenizer.pad_token_id, padding_side="left"), mask

    @torch.no_grad()
    def _logprobs(self, prompt_ids: Tensor, prompt_mask: Tensor, batch: dict[str, Any]) -> Tensor:
        """float32[B, T]: the policy's log-probs of the completions after these prompts."""
        completion_ids, mask = batch["completion_ids"], batch["completion_mask"]
        logprobs, *_ = self._get_per_token_logps_and_entropies(
            self.model,
            torch.cat([prompt_ids, completion_ids], dim=1),
            torch.cat([prompt_mask, mask.to(prompt_mask.dtype)], dim=1),
            completion_ids.shape[1],
        )
        return logprobs


if __name__ == "__main__":
    from datasets import Dataset  # pyright: ignore[reportMissingImports]
    from trl import GRPOConfig  # pyright: ignore

    from trainer.demo_model import resolve_model
    from verifiers.adapters import trl_reward

    rows = [
        {
            "prompt": [{"role": "user", "content": f"What is {n} + {n}?"}],
            "privileged": f"A correct response is:\n{n} + {n} = {2 * n}",
            "verifier": {"kind": "math", "answer": str(2 * n)},
        }
        for n in range(2, 50)
    ]
    RlsdTrainer(
        model=str(resolve_model("smollm2-135m-instruct")),
        reward_funcs=trl_reward,
        train_dataset=Dataset.from_list(rows),
        args=GRPOConfig(
            output_dir="trl-rlsd", max_steps=10, num_generations=8, max_completion_length=48
        ),
    ).train()
