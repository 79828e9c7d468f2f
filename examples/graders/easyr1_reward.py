"""Strop's verifiers as EasyR1's reward function.

    python -m verl.trainer.main ... \\
        worker.reward.reward_type=batch \\
        worker.reward.reward_function=examples/graders/easyr1_reward.py:compute_score

A row's answer is an answer, or a verifier spec as JSON. Run this file to see both judged.
"""

import json

from verifiers.adapters import easyr1_scores as compute_score

REWARD_NAME = "strop"
REWARD_TYPE = "batch"
__all__ = ["REWARD_NAME", "REWARD_TYPE", "compute_score"]

if __name__ == "__main__":
    choice = json.dumps({"kind": "choice", "answer": "A", "choices": ["Oslo", "Bergen"]})
    rows = [("The answer is 36.", "36"), ("The answer is B.", choice)]
    inputs = [
        {"response": said, "response_length": len(said), "ground_truth": truth}
        for said, truth in rows
    ]
    print(compute_score(inputs))
