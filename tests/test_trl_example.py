"""RLSD's credit inside TRL's own GRPOTrainer, run for real on a tiny model."""

from __future__ import annotations

import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig  # pyright: ignore[reportPrivateImportUsage]

from tests.tiny_model import make_tiny_model

EXAMPLE = Path(__file__).parents[1] / "examples" / "trl" / "rlsd.py"


def trained(folder: Path, hint: str) -> tuple[Any, list[Any]]:
    """A trainer after two steps on prompts with this hint, and the advantages it made."""
    made: list[Any] = []
    base: Any = runpy.run_path(str(EXAMPLE))["RlsdTrainer"]

    class Watched(base):
        def _generate_and_score_completions(self, inputs: Any) -> Any:
            batch = super()._generate_and_score_completions(inputs)
            made.append(batch["advantages"])
            return batch

    def letters(completions: Sequence[Any], **_: Any) -> list[float]:
        return [float(sum(map(str.isalpha, c[-1]["content"]))) for c in completions]

    rows = [
        {"prompt": [{"role": "user", "content": f"Say {n}."}], "privileged": hint} for n in range(4)
    ]
    trainer = Watched(
        model=str(make_tiny_model(folder / "model")),
        reward_funcs=letters,
        train_dataset=Dataset.from_list(rows),
        args=GRPOConfig(
            output_dir=str(folder / "out"),
            max_steps=2,
            num_generations=4,
            per_device_train_batch_size=8,
            max_completion_length=6,
            learning_rate=1e-3,
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
        ),
    )
    trainer.train()
    return trainer, made


def test_a_hint_spreads_the_advantages_over_the_tokens(tmp_path: Path) -> None:
    trainer, made = trained(tmp_path, "A correct response is: aaaaaa")
    assert len(made) == 2
    for advantages in made:
        assert advantages.ndim == 2
        moved = advantages[advantages.abs().sum(1) > 0]
        assert len(moved) > 0, "the rewards have contrast"
        assert (moved.std(1) > 0).any(), "tokens of one completion differ in credit"
        assert (torch.sign(moved) == torch.sign(moved[:, :1])).all(), "the verifier's direction"
    spreads = [log["rlsd/weight_spread"] for log in trainer.state.log_history if "loss" in log]
    assert len(spreads) == 2
    assert min(spreads) > 0.01


def test_without_a_hint_every_token_has_its_completions_advantage(tmp_path: Path) -> None:
    _, made = trained(tmp_path, "")
    for advantages in made:
        assert advantages.abs().sum() > 0
        assert (advantages - advantages[:, :1]).abs().max() < 1e-5
