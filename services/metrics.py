"""Prometheus metrics of the API: its requests, the jobs by status, the running jobs' progress.

Names are `strop_*` in base units. What concerns one job carries its id and is read from the
store at each scrape, so that a job's series vanish when it ends. Knows nothing of routes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.jobs import Job, JobStatus
from services.store import Store

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
        "How far the leak rate that rose most stands above the first step's.",
    ),
    "strop_job_start_divergence_nats": ("kl_start", "KL of the policy from its first weights."),
    "strop_job_effective_step_ratio": (
        "effective_step",
        "Mean token weight, by the size of the advantage.",
    ),
    "strop_job_clipped_ratio": ("clip_share", "Tokens whose policy ratio was clipped."),
    "strop_job_remaining_seconds": ("seconds_left", "Estimated time until the job ends."),
    "strop_job_policy_version": ("version", "Newest published policy version."),
}


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

    counts: Mapping[JobStatus, int]
    running: Iterable[Job]
    dispatchers: int

    @classmethod
    async def read(cls, store: Store) -> JobMetrics:
        """Take the moment from the store."""
        return cls(await store.job_counts(), await store.running_jobs(), len(await store.workers()))

    def collect(self) -> Iterable[Metric]:
        """The families of this moment."""
        jobs = GaugeMetricFamily("strop_jobs", "Jobs by status.", labels=["status"])
        for status, count in self.counts.items():
            jobs.add_metric([status], count)
        yield jobs
        yield GaugeMetricFamily(
            "strop_dispatchers", "Dispatchers that are alive.", value=self.dispatchers
        )
        for name, (key, documentation) in JOB_GAUGES.items():
            yield self._family(name, documentation, None, key)
        yield self._family(
            "strop_job_verifier_reward_mean", "Mean reward by verifier.", "verifier", "rewards"
        )
        yield self._family(
            "strop_job_phase_seconds",
            "Seconds of each phase of the step.",
            "phase",
            "phase_seconds",
        )

    def _family(
        self, name: str, documentation: str, label: str | None, key: str
    ) -> GaugeMetricFamily:
        """One gauge over the running jobs; with `label` the value is a mapping."""
        labels = ["job"] if label is None else ["job", label]
        family = GaugeMetricFamily(name, documentation, labels=labels)
        for job in self.running:
            value = (job.progress or {}).get(key)
            if value is None:
                continue
            if label is None:
                family.add_metric([job.id], value)
            else:
                for item, number in value.items():
                    family.add_metric([job.id, item], number)
        return family


def exposition(http: HttpMetrics, *moments: Collector) -> bytes:
    """The requests and what was read for this scrape, in Prometheus' text format."""
    registry = CollectorRegistry()
    for moment in moments:
        registry.register(moment)
    return generate_latest(http.registry) + generate_latest(registry)
