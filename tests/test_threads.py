"""Threads follow from Ray CPU shares, and waiting threads sleep."""

from services.config import JobSpec
from services.threads import compute_env, threads_of


def job(staleness: int, kind: str = "rlsd", **tiers: dict[str, object]) -> JobSpec:
    return JobSpec.model_validate(
        {
            "model": {"path": "m"},
            "tasks": {"train": "t.jsonl"},
            "algorithm": {"kind": kind},
            "sampling": {"max_staleness": staleness},
            "tiers": tiers,
        }
    )


def test_tiers_that_take_turns_lend_each_other_their_cpus() -> None:
    spec = job(0, rollout={"cpus": 1.0}, trainer={"cpus": 0.5}, teacher={"cpus": 0.5})
    assert threads_of(spec, spec.tiers.rollout) == 2
    assert threads_of(spec, spec.tiers.trainer) == 2


def test_tiers_that_overlap_keep_to_their_own_cpus() -> None:
    spec = job(1, rollout={"cpus": 3.0}, trainer={"cpus": 2.0})
    assert threads_of(spec, spec.tiers.rollout) == 3
    assert threads_of(spec, spec.tiers.trainer) == 2


def test_replicas_share_what_is_lent() -> None:
    spec = job(0, "grpo", rollout={"cpus": 2.0, "replicas": 2}, trainer={"cpus": 4.0})
    assert threads_of(spec, spec.tiers.rollout) == 4
    assert threads_of(spec, spec.tiers.trainer) == 8


def test_a_tier_with_a_placement_of_its_own_neither_lends_nor_borrows() -> None:
    spec = job(0, "grpo", rollout={"cpus": 4.0, "labels": {"pool": "a"}}, trainer={"cpus": 2.0})
    assert threads_of(spec, spec.tiers.rollout) == 4
    assert threads_of(spec, spec.tiers.trainer) == 2


def test_every_actor_has_a_thread_and_waits_asleep() -> None:
    spec = job(1, rollout={"cpus": 0.1})
    assert threads_of(spec, spec.tiers.rollout) == 1
    env = compute_env(3)
    assert env["OMP_NUM_THREADS"] == "3"
    assert env["OMP_WAIT_POLICY"] == "PASSIVE"
    assert int(env["KMP_BLOCKTIME"]) <= 1
