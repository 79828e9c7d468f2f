"""What verifiers count adds up in the store and is Prometheus' at the API."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.store import Store
from services.verdict_counts import VerdictCounts, VerifierMetrics
from tests.services.running import Api
from verifiers.verdict import Verdict

MOMENT = {"waiting": 7, "in_hand": 16, "pools": 2, "workers": 4, "busy": 3, "jobs": 2}


def samples(metrics: VerifierMetrics) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in metrics.collect()
        for sample in family.samples
    }


@given(st.lists(st.tuples(st.sampled_from(["correct", "wrong"]), st.floats(0, 1e5)), max_size=40))
def test_every_verdict_is_in_one_bucket_and_counted_once(said: list[tuple[str, float]]):
    tally, relayed = VerdictCounts(), VerdictCounts()
    for status, wall_ms in said:
        tally.add("math", [Verdict(1.0, status, wall_ms=wall_ms)])  # type: ignore[arg-type]
        relayed.merge(tally.take())
    assert tally.take() == {}
    found = samples(VerifierMetrics(relayed.take(), {}))
    for status in ("correct", "wrong"):
        count = sum(status == other for other, _ in said)
        assert found.get(("strop_verdicts_total", "math", status), 0) == count
    if said:
        assert found["strop_verify_seconds_count", "math"] == len(said)
        assert found["strop_verify_seconds_sum", "math"] == pytest.approx(
            sum(wall_ms for _, wall_ms in said) / 1e3
        )
        for bound in ("0.1", "10.0", "+Inf"):
            below = sum(wall_ms / 1e3 <= float(bound) for _, wall_ms in said)
            assert found["strop_verify_seconds_bucket", "math", bound] == below


async def test_tiers_that_are_heard_of_show_their_numbers_and_counts_outlive_them(
    api: Api, store: Store
) -> None:
    tally = VerdictCounts()
    tally.add("sql", [Verdict(None, "infra_error")])
    tally.replaced("pool", 2)
    await store.tell_verifiers("tier-a", tally.take(), MOMENT)
    tally.add("sql", [Verdict(None, "infra_error"), Verdict(1.0, "correct", wall_ms=20.0)])
    await store.tell_verifiers("tier-a", tally.take(), MOMENT)
    await store.tell_verifiers("silent", {}, MOMENT, ttl=0)

    async def lines() -> list[str]:
        async with api.client() as client:
            return (await client.get("/metrics")).text.splitlines()

    shown = await lines()
    for line in (
        'strop_verdicts_total{kind="sql",status="infra_error"} 2.0',
        'strop_verdicts_total{kind="sql",status="correct"} 1.0',
        'strop_verify_seconds_bucket{kind="sql",le="0.025"} 3.0',
        'strop_verifier_replaced_total{what="pool"} 2.0',
        'strop_verifier_waiting{tier="tier-a"} 7.0',
        'strop_verifier_workers_busy{tier="tier-a"} 3.0',
    ):
        assert line in shown
    assert not any("silent" in line for line in shown)

    await store.tell_verifiers("tier-a", {}, {})
    shown = await lines()
    assert not any("tier-a" in line for line in shown)
    assert 'strop_verdicts_total{kind="sql",status="correct"} 1.0' in shown
