"""Prometheus metrics of the API: its requests, the jobs by status, the running jobs' progress.

Names are `strop_*` in base units. What concerns one job carries its id and is read from the
store at each scrape, so that a job's series vanish when it ends. Knows nothing of routes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from services.store import Store
from services.store.moments import Moment

# Gauge of a running job -> (key of its newest step event, help).
JOB_GAUGES: Mapping[str, tuple[str, str]] = {
    "strop_job_step": ("step", "Finished learning steps."),
    "strop_job_steps": ("steps", "Learning steps the job asks for."),
    "strop_job_reward_mean": ("reward_mean", "Mean reward of the step's completions."),
    "strop_job_loss": ("loss", "Loss of the step."),
    "strop_job_grad_norm": ("grad_norm", "Gradient norm before clipping."),
    "strop_job_entropy_nats": ("entropy", "Mean entropy of the policy's next-token distribution."),
    "strop_job_mix_ratio": ("mix", "Share of the credit that evidence redistributes."),
    "strop_job_step_completion_tokens": ("completion_tokens", "Tokens sampled in the step."),
    "strop_job_generated_tokens_per_second": ("tokens_per_s", "Sampled tokens over rollout time."),
    "strop_job_completion_length_tokens": (
        "completion_length_mean",
        "Mean length of the step's completions.",
    ),
    "strop_job_rollouts_in_flight": (
        "rollouts_in_flight",
        "Completions asked of the engines and not yet sampled, on average over the step.",
    ),
    "strop_job_staleness_versions": ("staleness", "Policy versions the step's rollouts lagged."),
    "strop_job_step_groups": ("groups", "Groups the step learned from."),
    "strop_job_step_zero_variance_groups": (
        "zero_variance_groups",
        "Groups without contrast in the step: they teach nothing.",
    ),
    "strop_job_step_refilled_groups": (
        "refilled_groups",
        "Tasks tried in the step in place of groups without contrast.",
    ),
    "strop_job_step_infra_errors": ("infra_errors", "Verdicts lost to faults of ours in the step."),
    "strop_job_step_dropped_stale": ("dropped_stale", "Rollouts dropped as too old in the step."),
    "strop_job_engine_mismatch_nats": (
        "engine_mismatch",
        "Mean distance of the engine's and the learner's log-probs.",
    ),
    "strop_job_leak_reference_ratio": (
        "leak_reference",
        "Completions that refer to what only the teacher sees.",
    ),
    "strop_job_leak_early_answer_ratio": (
        "leak_early_answer",
        "Completions that state the answer before any work.",
    ),
    "strop_job_leak_overlap_ratio": (
        "leak_overlap",
        "Mean share of a completion's word 5-grams that stand in the privileged text.",
    ),
    "strop_job_leak_rise_ratio": (
        "leak_rise",
        "How far the leak rate that rose most stands above the first step's, less 3 standard errors.",
    ),
    "strop_job_start_divergence_nats": ("kl_start", "KL of the policy from its first weights."),
    "strop_job_effective_step_ratio": (
        "effective_step",
        "Mean token weight, by the size of the advantage.",
    ),
    "strop_job_clipped_ratio": ("clip_share", "Tokens whose policy ratio was clipped."),
    "strop_job_zero_variance_ratio": ("zero_variance_share", "Groups without contrast, by share."),
    "strop_job_holdout_accuracy_ratio": (
        "holdout_accuracy",
        "Held-out accuracy when last measured.",
    ),
    "strop_job_token_weight_mean": ("weight_mean", "Mean weight of a token's advantage."),
    "strop_job_weight_clip_ratio": (
        "weight_clip_share",
        "Tokens whose evidence reached the clip, of those with an advantage.",
    ),
    "strop_job_importance_capped_ratio": (
        "importance_cap_share",
        "Tokens whose importance weight was truncated.",
    ),
    "strop_job_weight_sync_bytes": ("weight_bytes", "Size of the newest published weights."),
    "strop_job_weight_sync_seconds": (
        "weight_seconds",
        "Time of the newest publication, until every engine had proven the weights.",
    ),
    "strop_job_canary_gap_nats": (
        "canary_gap",
        "Widest distance of an engine's canary log-probs from the learner's.",
    ),
    "strop_job_remaining_seconds": ("seconds_left", "Estimated time until the job ends."),
    "strop_job_policy_version": ("version", "Newest published policy version."),
}


LABELLED_GAUGES: Mapping[str, tuple[str, str | Mapping[str, str], str]] = {
    "strop_job_verifier_reward_mean": ("verifier", "rewards", "Mean reward by verifier."),
    "strop_job_phase_seconds": ("phase", "phase_seconds", "Seconds of each phase of the step."),
    "strop_job_tier_idle_ratio": (
        "tier",
        "idle_share",
        "Share of the step in which a tier had nothing to do.",
    ),
    "strop_job_evidence_nats": (
        "sign",
        {"rewarded": "evidence_rewarded", "blamed": "evidence_blamed"},
        "Mean evidence of tokens by the sign of their advantage.",
    ),
}
"""Gauge of a running job -> (label, key of a mapping or keys by the label's value, help)."""

JOB_HISTOGRAMS: Mapping[str, tuple[str, str]] = {
    "strop_job_step_reward": ("reward_histogram", "Rewards of the newest step's completions."),
    "strop_job_step_credit": ("credit_histogram", "Credit of the newest step's tokens."),
}
"""Histogram of a running job's newest step -> (key of its counts by upper bound, help)."""

FAILURE_CODES = ("not_finite", "stale_weights")
"""Codes that are shown before any job failed with them, so that the first one is a change."""


class HttpMetrics:
    """Counts requests and times them until the response begins, so followers do not count."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "strop_http_requests",
            "Requests answered.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "strop_http_request_duration_seconds",
            "Time from a request to the beginning of its response.",
            ["method", "route"],
            registry=self.registry,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request; `route` is the path's template, never the path."""
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)


@dataclass(frozen=True, eq=False)  # a registry keeps its collectors by identity
class JobMetrics(Collector):
    """The jobs at one moment, as Prometheus families."""

    moment: Moment

    @classmethod
    async def read(cls, store: Store) -> JobMetrics:
        """Take the moment from the store."""
        return cls(await store.moment())

    def collect(self) -> Iterable[Metric]:
        """The families of this moment."""
        yield from self._service()
        for name, (key, documentation) in JOB_GAUGES.items():
            yield self._progress(name, documentation, key)
        for name, (label, keys, documentation) in LABELLED_GAUGES.items():
            yield self._labelled(name, documentation, label, keys)
        for name, (key, documentation) in JOB_HISTOGRAMS.items():
            yield self._histogram(name, documentation, key)
        jobs = {job.id: job for job in self.moment.running}
        pulses = {name: job.pulse_at for name, job in jobs.items() if job.pulse_at}
        for name, documentation, values in (
            ("strop_job_lease_remaining_seconds",
             "Time until another dispatcher may adopt the job.", self.moment.lease_s),
            ("strop_job_checkpoint_timestamp_seconds",
             "When the newest checkpoint was written.", self.moment.checkpoint_at),
            ("strop_job_progress_timestamp_seconds",
             "When the job last got on: a phase began or a step ended.", pulses),
            ("strop_job_trained_tokens", "Completion tokens the job was trained on.",
             {name: float(job.trained_tokens) for name, job in jobs.items()}),
            ("strop_job_attempts", "Claims since the job last finished a step.",
             {name: float(job.attempts) for name, job in jobs.items()}),
        ):  # fmt: skip
            family = GaugeMetricFamily(name, documentation, labels=["job_id"])
            for job, value in values.items():
                family.add_metric([job], value)
            yield family

    def _service(self) -> Iterable[Metric]:
        moment = self.moment
        jobs = GaugeMetricFamily("strop_jobs", "Jobs by status.", labels=["status"])
        for status, count in moment.counts.items():
            jobs.add_metric([status], count)
        yield jobs
        failed = CounterMetricFamily(
            "strop_jobs_failed", "Jobs that failed, by the code of their error.", labels=["code"]
        )
        for code in sorted({*FAILURE_CODES, *moment.failures}):
            failed.add_metric([code], moment.failures.get(code, 0))
        yield failed
        for name, documentation, value in (
            ("strop_dispatchers", "Dispatchers that are alive.", moment.dispatchers),
            ("strop_queue_oldest_age_seconds", "Age of the oldest queued job.", moment.oldest_s),
            ("strop_store_persistence_failing",
             "1 when the store's server could not write its data to disk.", moment.unwritten),
        ):  # fmt: skip
            yield GaugeMetricFamily(name, documentation, value=float(value))
        yield CounterMetricFamily(
            "strop_trained_tokens",
            "Completion tokens that jobs were trained on.",
            value=moment.trained_tokens,
        )

    def _told(self, key: str) -> Iterator[tuple[str, Any]]:
        """What the newest step of each running job says under this key."""
        for job in self.moment.running:
            value = (job.progress or {}).get(key)
            if value is not None:
                yield job.id, value

    def _progress(self, name: str, documentation: str, key: str) -> Metric:
        family = GaugeMetricFamily(name, documentation, labels=["job_id"])
        for job, value in self._told(key):
            family.add_metric([job], value)
        return family

    def _labelled(
        self, name: str, documentation: str, label: str, keys: str | Mapping[str, str]
    ) -> Metric:
        """A gauge of one more label: a mapping in the step, or several of its numbers."""
        family = GaugeMetricFamily(name, documentation, labels=["job_id", label])
        if isinstance(keys, str):
            for job, values in self._told(keys):
                for item, value in values.items():
                    family.add_metric([job, item], value)
            return family
        for item, key in keys.items():
            for job, value in self._told(key):
                family.add_metric([job, item], value)
        return family

    def _histogram(self, name: str, documentation: str, key: str) -> Metric:
        family = GaugeHistogramMetricFamily(name, documentation, labels=["job_id"])
        for job, counts in self._told(key):
            total, cumulative = 0.0, list[tuple[str, float]]()
            for bound, count in counts.items():
                if bound != "sum":
                    total += count
                    cumulative.append((bound, total))
            family.add_metric([job], cumulative, counts["sum"])
        return family


def exposition(http: HttpMetrics, *moments: Collector) -> bytes:
    """The requests and what was read for this scrape, in Prometheus' text format."""
    registry = CollectorRegistry()
    for moment in moments:
        registry.register(moment)
    return generate_latest(http.registry) + generate_latest(registry)
