"""What is served, as Prometheus families: models by state, tokens by tenant and model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.served_models import ServedModels


@dataclass(frozen=True, eq=False)  # a registry keeps its collectors by identity
class ServingMetrics(Collector):
    """Serving at one moment."""

    states: Mapping[str, int]
    tokens: Mapping[tuple[str, str, str], int]

    @classmethod
    async def read(cls, models: ServedModels) -> ServingMetrics:
        """Take the moment from the store."""
        states = await models.states()
        return cls(Counter(state.state for state in states.values()), await models.counted())

    def collect(self) -> Iterable[Metric]:
        """The families of this moment."""
        served = GaugeMetricFamily("strop_served_models", "Models by state.", labels=["state"])
        for state in ("loading", "ready", "restarting", "refused"):
            served.add_metric([state], self.states.get(state, 0))
        yield served
        tokens = CounterMetricFamily(
            "strop_served_tokens",
            "Tokens of completions: read (`prompt`) and drawn (`completion`).",
            labels=["tenant", "model", "kind"],
        )
        for labels, count in sorted(self.tokens.items()):
            tokens.add_metric(list(labels), count)
        yield tokens
