"""The four dashboards, as code: `python -m deploy.grafana.dashboards` rewrites dashboards/*.json.

Fleet    is the service well, and who waits?
Run      does a job learn, and is what it learns what it should?
Tiers    where does a step's time go, and which tier starves?
Verifiers  are verdicts right, fast and ours?
"""

from __future__ import annotations

from pathlib import Path

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.panels import choice, distribution, lines, number, page

FOLDER = Path(__file__).parent / "dashboards"

JOBS = choice("job", "Job", "label_values(strop_job_step, job_id)")
KINDS = choice("kind", "Verifier", "label_values(strop_verdicts_total, kind)")
OF_JOB = '{job_id=~"$job"}'


def fleet() -> build.Dashboard:
    """The service as a whole."""
    return (
        page("strop-fleet", "Strop / Fleet", "Is the service well, and who waits?")
        .with_row(build.Row("Now"))
        .with_panel(number("Running jobs", 'sum(strop_jobs{status="running"})', "short",
                           about="Jobs that hold their tiers."))
        .with_panel(number("Queued jobs", 'sum(strop_jobs{status="queued"})', "short",
                           about="Jobs that wait for their turn, or for room."))
        .with_panel(number("Longest wait", "max(strop_queue_oldest_age_seconds)", "s", red_from=3600,
                           about="Age of the oldest queued job. The job itself says what it waits for."))
        .with_panel(number("Dispatchers", "max(strop_dispatchers)", "short",
                           about="Processes that start jobs. With none, queued jobs stay queued."))
        .with_panel(number("Server errors", 'sum(rate(strop_http_requests_total{status=~"5.."}[5m])) '
                           "/ sum(rate(strop_http_requests_total[5m]))", "percentunit", red_from=0.01,
                           about="Share of requests answered with 5xx over five minutes."))
        .with_panel(number("Store writes fail", "max(strop_store_persistence_failing)", "short",
                           red_from=1, about="1 when Redis says that its append-only file or its "
                           "snapshot could not be written."))
        .with_row(build.Row("Jobs"))
        .with_panel(lines("Jobs by status", "short", ("sum by (status) (strop_jobs)", "{{status}}"),
                          about="What is there, ended jobs included."))
        .with_panel(lines("Tokens sampled per second", "short",
                          ("sum by (job_id) (strop_job_generated_tokens_per_second)", "{{job_id}}"),
                          about="Of each running job, while it rolls out."))
        .with_panel(lines("Lease left", "s", ("min by (job_id) (strop_job_lease_remaining_seconds)", "{{job_id}}"),
                          about="Seconds until another dispatcher may adopt the job. A sawtooth "
                          "is a heartbeat; below zero nobody runs it."))
        .with_row(build.Row("API"))
        .with_panel(lines("Requests by status", "reqps",
                          ("sum by (status) (rate(strop_http_requests_total[5m]))", "{{status}}"),
                          about="Answered requests per second.", stacked=True))
        .with_panel(lines("Latency, 99th percentile", "s",
                          ("histogram_quantile(0.99, sum by (le, route) "
                           "(rate(strop_http_request_duration_seconds_bucket[5m])))", "{{route}}"),
                          about="Until the response begins, by route."))
        .with_panel(lines("Latency, median", "s",
                          ("histogram_quantile(0.5, sum by (le, route) "
                           "(rate(strop_http_request_duration_seconds_bucket[5m])))", "{{route}}"),
                          about="Until the response begins, by route."))
    )  # fmt: skip


def run() -> build.Dashboard:
    """What a job learns."""

    def of(metric: str, legend: str = "{{job_id}}") -> tuple[str, str]:
        return f"{metric}{OF_JOB}", legend

    return (
        page("strop-run", "Strop / Run", "Does a job learn, and is it what it should learn?", JOBS)
        .with_row(build.Row("Reward"))
        .with_panel(lines("Mean reward", "percentunit", of("strop_job_reward_mean"),
                          about="Of the step's completions. It should rise, and not jump: a jump "
                          "is more often a hole in a verifier than a discovery."))
        .with_panel(lines("Held-out accuracy", "percentunit", of("strop_job_holdout_accuracy_ratio"),
                          about="Of the newest evaluation."))
        .with_panel(lines("Mean reward by verifier", "percentunit",
                          of("strop_job_verifier_reward_mean", "{{job_id}} {{verifier}}"),
                          about="A verifier whose reward stands still teaches nothing."))
        .with_panel(distribution("Rewards", f"sum by (le) (strop_job_step_reward_bucket{OF_JOB})",
                                 about="Of the newest step's completions."))
        .with_panel(lines("Groups without contrast", "percentunit", of("strop_job_zero_variance_ratio"),
                          about="They teach nothing. Above 0.8 the tasks are too easy or too hard.",
                          low=0, high=1))
        .with_panel(lines("Completion length", "short", of("strop_job_completion_length_tokens"),
                          about="Tokens. Collapse shows as very short, or as the longest allowed."))
        .with_row(build.Row("Credit"))
        .with_panel(distribution("Token credit", f"sum by (le) (strop_job_step_credit_bucket{OF_JOB})",
                                 about="Advantage times token weight, of the newest step."))
        .with_panel(lines("Evidence by sign of the advantage", "short",
                          of("strop_job_evidence_nats", "{{job_id}} {{sign}}"),
                          about="Mean log-ratio of teacher and student, in nats. Evidence that knows "
                          "something is higher on rewarded than on blamed completions."))
        .with_panel(lines("Token weights", "short",
                          of("strop_job_token_weight_mean", "{{job_id}} mean"),
                          of("strop_job_weight_clip_ratio", "{{job_id}} share at the clip"),
                          of("strop_job_effective_step_ratio", "{{job_id}} effective step"),
                          about="A mean far from 1 changes the size of the step; a large share at "
                          "the clip means that the clip decides, not the evidence."))
        .with_panel(lines("Mix", "percentunit", of("strop_job_mix_ratio"),
                          about="Share of the credit that evidence redistributes.", low=0, high=1))
        .with_panel(lines("Clipped ratios", "percentunit", of("strop_job_clipped_ratio"),
                          about="Tokens whose policy ratio was clipped."))
        .with_panel(lines("Leaks", "percentunit",
                          of("strop_job_leak_reference_ratio", "{{job_id}} refers to the unseen"),
                          of("strop_job_leak_early_answer_ratio", "{{job_id}} answers before any work"),
                          of("strop_job_leak_overlap_ratio", "{{job_id}} overlap with the hint"),
                          about="Completions that show what only the teacher was shown.", low=0))
        .with_row(build.Row("Stability"))
        .with_panel(lines("Entropy", "short", of("strop_job_entropy_nats"),
                          about="Mean, in nats. Near zero the policy explores no more.", low=0))
        .with_panel(lines("KL to the start", "short", of("strop_job_start_divergence_nats"),
                          about="Of a sample of completions, in nats. It grows slowly; a blow-up is "
                          "a broken run.", low=0))
        .with_panel(lines("Loss and gradient norm", "short", of("strop_job_loss", "{{job_id}} loss"),
                          of("strop_job_grad_norm", "{{job_id}} gradient norm"),
                          about="The norm is before clipping."))
        .with_panel(lines("Engine against learner", "short",
                          of("strop_job_engine_mismatch_nats", "{{job_id}} mismatch"),
                          of("strop_job_canary_gap_nats", "{{job_id}} canary"),
                          about="Mean distance of their log-probs, and that of the canary prompt at "
                          "the newest publication, in nats. A jump means wrong weights."))
        .with_panel(lines("Steps", "short", of("strop_job_step", "{{job_id}} done"),
                          of("strop_job_steps", "{{job_id}} asked for"), about="Learning steps."))
        .with_panel(lines("Age of the newest checkpoint", "s",
                          (f"time() - strop_job_checkpoint_timestamp_seconds{OF_JOB}", "{{job_id}}"),
                          about="What a crash now would repeat."))
    )  # fmt: skip


def tiers() -> build.Dashboard:
    """Where the time goes."""

    def of(metric: str, legend: str = "{{job_id}}") -> tuple[str, str]:
        return f"{metric}{OF_JOB}", legend

    def rate(metric: str) -> str:
        return f"sum(rate({metric}[5m]))"

    return (
        page("strop-tiers", "Strop / Tiers", "Where does a step's time go, and who starves?", JOBS)
        .with_row(build.Row("Steps"))
        .with_panel(lines("Seconds of a step by phase", "s",
                          of("strop_job_phase_seconds", "{{job_id}} {{phase}}"),
                          about="The longest phase bounds the throughput.", stacked=True))
        .with_panel(lines("Idle share of each tier", "percentunit",
                          of("strop_job_tier_idle_ratio", "{{job_id}} {{tier}}"),
                          about="Share of the newest step in which a tier had nothing to do. Give a "
                          "busy tier more replicas, or an idle one fewer.", low=0, high=1))
        .with_panel(lines("Tokens sampled per second", "short",
                          of("strop_job_generated_tokens_per_second"), about="While rolling out."))
        .with_panel(lines("Staleness", "short", of("strop_job_staleness_versions"),
                          of("strop_job_step_dropped_stale", "{{job_id}} dropped as too old"),
                          about="Versions the step's rollouts lagged behind the learner."))
        .with_panel(lines("Rollouts in flight", "short", of("strop_job_rollouts_in_flight"),
                          about="Completions asked of the engines and not yet sampled, on average "
                          "over the step. Zero while others learn: max_staleness lets them overlap.",
                          low=0))
        .with_panel(lines("Weight publication", "s", of("strop_job_weight_sync_seconds"),
                          about="From the learner to every engine, proof of arrival included."))
        .with_panel(lines("Published weights", "bytes", of("strop_job_weight_sync_bytes"),
                          about="Of one copy; each engine and teacher gets one."))
        .with_row(build.Row("Engines (vLLM)"))
        .with_panel(lines("Requests", "short",
                          ("sum(ray_vllm_num_requests_running)", "running"),
                          ("sum(ray_vllm_num_requests_waiting)", "waiting"),
                          about="Waiting requests want more engines or more KV cache."))
        .with_panel(lines("KV cache in use", "percentunit", ("ray_vllm_kv_cache_usage_perc", "{{WorkerId}}"),
                          about="Full with preemptions means recomputed tokens.", low=0, high=1))
        .with_panel(lines("Preemptions", "ops", (rate("ray_vllm_num_preemptions_total"), "all engines"),
                          about="Requests thrown out of the cache, per second."))
        .with_panel(lines("Tokens per second", "short",
                          (rate("ray_vllm_generation_tokens_total"), "generated"),
                          (rate("ray_vllm_prompt_tokens_total"), "of prompts"),
                          about="All engines."))
        .with_panel(lines("Prefix cache hits", "percentunit",
                          (f"{rate('ray_vllm_prefix_cache_hits_total')} / "
                           f"{rate('ray_vllm_prefix_cache_queries_total')}", "all engines"),
                          about="A group shares its prompt: with 8 completions about 7 of 8 hit.",
                          low=0, high=1))
        .with_panel(lines("Time to the first token", "s",
                          ("histogram_quantile(0.99, sum by (le) "
                           "(rate(ray_vllm_time_to_first_token_seconds_bucket[5m])))", "99th percentile"),
                          about="Of rollouts and of served models."))
        .with_row(build.Row("Machines (Ray)"))
        .with_panel(lines("CPU", "percent", ("ray_node_cpu_utilization", "{{ip}}"),
                          about="Of each node.", low=0, high=100))
        .with_panel(lines("Memory", "bytes", ("ray_node_mem_used", "{{ip}} used"),
                          ("ray_node_mem_total", "{{ip}} total"), about="Of each node."))
        .with_panel(lines("Object store", "bytes",
                          ("sum by (Location) (ray_object_store_memory)", "{{Location}}"),
                          about="Batches and weights on their way between tiers."))
    )  # fmt: skip


def verifiers() -> build.Dashboard:
    """Verdicts."""
    kind = '{kind=~"$kind"}'
    return (
        page("strop-verifiers", "Strop / Verifiers", "Are verdicts right, fast and ours?", KINDS)
        .with_row(build.Row("Verdicts"))
        .with_panel(lines("Verdicts per second", "ops",
                          (f"sum by (kind, status) (rate(strop_verdicts_total{kind}[5m]))",
                           "{{kind}} {{status}}"),
                          about="By kind of verifier and status.", stacked=True))
        .with_panel(lines("Lost to faults of ours", "percentunit",
                          ('sum by (kind) (rate(strop_verdicts_total{kind=~"$kind",'
                           'status="infra_error"}[5m])) / sum by (kind) '
                           f"(rate(strop_verdicts_total{kind}[5m]))", "{{kind}}"),
                          about="Verdicts without a score. They are left out of the loss; above 1 % "
                          "look at the pool.", low=0))
        .with_panel(lines("Timeouts", "percentunit",
                          ('sum by (kind) (rate(strop_verdicts_total{kind=~"$kind",'
                           'status="timeout"}[5m])) / sum by (kind) '
                           f"(rate(strop_verdicts_total{kind}[5m]))", "{{kind}}"),
                          about="Completions that used up their time.", low=0))
        .with_panel(lines("Seconds of a verdict, 99th percentile", "s",
                          ("histogram_quantile(0.99, sum by (le, kind) "
                           f"(rate(strop_verify_seconds_bucket{kind}[5m])))", "{{kind}}"),
                          about="From the start of the work, without queueing."))
        .with_panel(lines("Seconds of a verdict, median", "s",
                          ("histogram_quantile(0.5, sum by (le, kind) "
                           f"(rate(strop_verify_seconds_bucket{kind}[5m])))", "{{kind}}"),
                          about="From the start of the work, without queueing."))
        .with_panel(distribution("Seconds of a verdict",
                                 f"sum by (le) (increase(strop_verify_seconds_bucket{kind}[5m]))",
                                 about="All chosen kinds."))
        .with_row(build.Row("The pool"))
        .with_panel(lines("Completions", "short", ("sum(strop_verifier_waiting)", "waiting"),
                          ("sum(strop_verifier_in_hand)", "in hand"),
                          about="A queue that grows wants more actors: tiers.verifier.max_replicas."))
        .with_panel(lines("Workers", "short", ("sum(strop_verifier_workers)", "there"),
                          ("sum(strop_verifier_workers_busy)", "busy"),
                          ("sum(strop_verifier_pools)", "pools"),
                          ("sum(strop_verifier_jobs)", "jobs that share them"),
                          about="Judging processes."))
        .with_panel(lines("Replaced", "short",
                          ("sum by (what) (increase(strop_verifier_replaced_total[15m]))", "{{what}}"),
                          about="Workers and pools that died, or were killed for what a completion "
                          "did to them, in 15 minutes."))
    )  # fmt: skip


DASHBOARDS = {"fleet": fleet, "run": run, "tiers": tiers, "verifiers": verifiers}


def rendered(name: str) -> str:
    """The dashboard's JSON, as Grafana provisions it."""
    return JSONEncoder(sort_keys=True, indent=2).encode(DASHBOARDS[name]().build()) + "\n"


def main() -> None:
    """Rewrite every file."""
    FOLDER.mkdir(exist_ok=True)
    for name in DASHBOARDS:
        (FOLDER / f"{name}.json").write_text(rendered(name), encoding="utf-8")


if __name__ == "__main__":
    main()
