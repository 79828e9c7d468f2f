"""What is counted of verdicts: how many of each kind and status, and how long they took.

A tally is filled where verdicts are made, travels as plain numbers (field -> increment),
adds up in the store, and becomes Prometheus families at a scrape. The fields' names are
known to this file alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from services.store import Store
from verifiers.verdict import Verdict

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the histogram's buckets, in seconds."""

GAUGES: Mapping[str, tuple[str, str]] = {
    "waiting": ("strop_verifier_waiting", "Completions that wait for a verifier pool."),
    "in_hand": ("strop_verifier_in_hand", "Completions that verifier pools have in hand."),
    "pools": ("strop_verifier_pools", "Verifier pool actors that serve."),
    "workers": ("strop_verifier_workers", "Verifier worker processes."),
    "busy": ("strop_verifier_workers_busy", "Verifier worker processes that judge."),
    "jobs": ("strop_verifier_jobs", "Jobs that share the verifier tier."),
}
"""A tier's numbers of the moment -> (gauge, help)."""


REPLACED = ("pool", "worker")
"""What dies, or is killed, and is replaced."""


class VerdictCounts:
    """A tally of verdicts that is handed on from time to time."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._seconds: dict[str, float] = {}

    def add(self, kind: str, verdicts: Iterable[Verdict]) -> None:
        """Count these verdicts of one kind of verifier."""
        for verdict in verdicts:
            seconds = verdict.wall_ms / 1e3
            self._counts[f"verdicts|{kind}|{verdict.status}"] += 1
            self._counts[f"bucket|{kind}|{bisect_left(BOUNDS, seconds)}"] += 1
            self._seconds[kind] = self._seconds.get(kind, 0.0) + seconds

    def replaced(self, what: str, count: int = 1) -> None:
        """Count a `worker` or a `pool` that died or was killed, and was replaced."""
        if count:
            self._counts[f"replaced|{what}|"] += count

    def merge(self, counts: Mapping[str, float]) -> None:
        """Add what another tally has handed on."""
        for field, increment in counts.items():
            what, kind, _ = field.split("|")
            if what == "seconds":
                self._seconds[kind] = self._seconds.get(kind, 0.0) + increment
            else:
                self._counts[field] += int(increment)

    def take(self) -> dict[str, float]:
        """Everything since the last time, as field -> increment."""
        counts: dict[str, float] = dict(self._counts)
        counts |= {f"seconds|{kind}|": seconds for kind, seconds in self._seconds.items()}
        self._counts.clear()
        self._seconds.clear()
        return counts


@dataclass(frozen=True, eq=False)  # a registry keeps its collectors by identity
class VerifierMetrics(Collector):
    """All verdicts there were, and the verifier tiers at one moment."""

    counts: Mapping[str, float]
    tiers: Mapping[str, Mapping[str, float]]

    @classmethod
    async def read(cls, store: Store) -> VerifierMetrics:
        """Take the moment from the store."""
        return cls(await store.verdict_counts(), await store.verifier_tiers())

    def collect(self) -> Iterable[Metric]:
        """The families of this moment."""
        verdicts = CounterMetricFamily(
            "strop_verdicts", "Verdicts by kind of verifier and status.", labels=["kind", "status"]
        )
        replaced = CounterMetricFamily(
            "strop_verifier_replaced", "Workers and pools that were replaced.", labels=["what"]
        )
        buckets: dict[str, list[float]] = {}
        # What never happened is shown too, so that the first one is a change.
        never = {f"replaced|{what}|": 0.0 for what in REPLACED}
        for field, value in sorted({**never, **self.counts}.items()):
            what, kind, detail = field.split("|")
            if what == "verdicts":
                verdicts.add_metric([kind, detail], value)
            elif what == "replaced":
                replaced.add_metric([kind], value)
            elif what == "bucket":
                buckets.setdefault(kind, [0.0] * (len(BOUNDS) + 1))[int(detail)] = value
        yield verdicts
        yield replaced
        yield self._seconds(buckets)
        for key, (name, documentation) in GAUGES.items():
            family = GaugeMetricFamily(name, documentation, labels=["tier"])
            for tier, state in self.tiers.items():
                family.add_metric([tier], state.get(key, 0.0))
            yield family

    def _seconds(self, buckets: Mapping[str, list[float]]) -> HistogramMetricFamily:
        family = HistogramMetricFamily(
            "strop_verify_seconds", "Wall seconds of a verdict, without queueing.", labels=["kind"]
        )
        for kind, single in buckets.items():
            total, cumulative = 0.0, list[tuple[str, float]]()
            for bound, count in zip((*map(str, BOUNDS), "+Inf"), single, strict=True):
                total += count
                cumulative.append((bound, total))
            family.add_metric([kind], cumulative, self.counts.get(f"seconds|{kind}|", 0.0))
        return family
