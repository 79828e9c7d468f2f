"""Strop's verifiers as a reward function of TRL's GRPOTrainer.

    from trl import GRPOTrainer
    from examples.graders.trl_reward import dataset_rows, trl_reward

    GRPOTrainer(model=..., reward_funcs=trl_reward, train_dataset=Dataset.from_list(dataset_rows))

The data set has a column `verifier`; as JSON text it may hold another kind in every row.
Run this file to see completions of such rows judged.
"""

import json
from typing import Any

from verifiers.adapters import trl_reward

__all__ = ["dataset_rows", "trl_reward"]

dataset_rows: list[dict[str, Any]] = [
    {
        "prompt": [{"role": "user", "content": "What is a half plus a third?"}],
        "verifier": json.dumps({"kind": "math", "answer": "\\frac{5}{6}"}),
    },
    {
        "prompt": [{"role": "user", "content": "Name the capital of Norway. A: Oslo, B: Bergen"}],
        "verifier": json.dumps({"kind": "choice", "answer": "A", "choices": ["Oslo", "Bergen"]}),
    },
]

if __name__ == "__main__":
    completions = [
        [{"role": "assistant", "content": "The answer is 5/6."}],
        [{"role": "assistant", "content": "The answer is B."}],
    ]
    print(trl_reward(completions, [row["verifier"] for row in dataset_rows]))
