"""Strop's verifiers as verl's reward function.

    python -m verl.trainer.main_ppo ... \\
        custom_reward_function.path=examples/graders/verl_reward.py \\
        custom_reward_function.name=compute_score

A row's `reward_model.ground_truth` is an answer, or a verifier spec as JSON; or the row has
the spec in `extra_info.verifier`. Run this file to see both judged.
"""

from verifiers.adapters import compute_score

__all__ = ["compute_score"]

if __name__ == "__main__":
    print(compute_score("gsm8k", "9 x 4 = 36, so the answer is 36.", "36"))
    spec = {"kind": "schema", "schema": {"type": "object", "required": ["city"]}}
    print(compute_score("json", '{"city": "Oslo"}', "", {"verifier": spec}))
    print(compute_score("json", '{"town": "Oslo"}', "", {"verifier": spec}))
