"""Facts about a step's histograms."""

from __future__ import annotations

import math

import pytest

from services.histograms import counted, flat, nested


def test_a_value_lies_in_the_first_bucket_that_reaches_it() -> None:
    counts = counted([0.0, 0.05, 0.1, 0.2, 7.0], (0.0, 0.1))
    assert counts == {"0": 1, "0.1": 2, "+Inf": 2, "sum": pytest.approx(7.35)}


def test_what_is_not_finite_is_not_counted() -> None:
    assert counted([math.nan, math.inf], (0.0,)) == {"0": 0, "+Inf": 0, "sum": 0.0}
    assert counted([], (0.0,)) == {"0": 0, "+Inf": 0, "sum": 0.0}


def test_mappings_survive_being_flat() -> None:
    metrics = {"loss": 1.0} | flat("credit", {"0.5": 2.0, "+Inf": 3.0})
    assert all(isinstance(value, float) for value in metrics.values())
    assert nested(metrics) == {"loss": 1.0, "credit": {"0.5": 2.0, "+Inf": 3.0}}
