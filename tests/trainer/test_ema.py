"""The averaged teacher."""

from __future__ import annotations

import torch

from trainer.ema import WeightAverage


def test_the_first_weights_are_taken_whole_and_later_ones_by_their_share() -> None:
    average = WeightAverage(0.25)
    first = dict(average.blend([("w", torch.tensor([4.0, 0.0]))]))
    assert first["w"].tolist() == [4.0, 0.0]
    second = dict(average.blend([("w", torch.tensor([0.0, 8.0]))]))
    assert second["w"].tolist() == [3.0, 2.0]


def test_small_changes_of_half_precision_weights_are_not_lost() -> None:
    average = WeightAverage(0.01)
    weight = torch.tensor([1.0], dtype=torch.bfloat16)
    list(average.blend([("w", weight)]))
    blends = [dict(average.blend([("w", weight + 0.0078125)]))["w"].clone() for _ in range(10)]
    assert blends[-1].dtype == torch.float32
    assert 1.0006 < blends[-1].item() < 1.0008
    assert blends[-1].bfloat16().item() == 1.0, "each rounded step would have been lost"
    assert weight.item() == 1.0, "the given weights stay as they are"
