"""What a probe's numbers are, and what it says about them: pure, on made-up groups."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from services.config import JobSpec
from services.probe_digest import Sample, digest
from services.probe_words import findings
from trainer.records import Group, Privileged, Rollout, Task
from verifiers.verdict import Status, Verdict

SECONDS = {"rollout": 8.0, "verify": 2.0, "score": 1.0, "learn": 9.0, "publish": 3.0}


def job(**changes: Any) -> JobSpec:
    data: dict[str, Any] = {
        "steps": 10,
        "model": {"path": "m"},
        "tasks": {"train": "t.jsonl"},
        "sampling": {"group_size": 4, "groups_per_step": 4},
    }
    return JobSpec.model_validate({**data, **changes})


def group(name: str, scores: list[float | None], text: str = "so it is", length: int = 2) -> Group:
    def verdict(score: float | None) -> Verdict:
        status: Status = "infra_error" if score is None else "correct" if score == 1 else "wrong"
        return Verdict(score, status)

    rollout = Rollout(
        np.zeros(5, np.int32),
        np.zeros(length, np.int32),
        np.zeros(length, np.float32),
        text,
        0,
        "stop",
    )
    task = Task(
        name,
        ({"role": "user", "content": "How many?"},),
        {"kind": "math", "answer": "24"},
        Privileged(answer="24", trace="Four boxes hold six apples each, that makes 24 apples."),
    )
    return Group(
        task,
        tuple(rollout for _ in scores),
        tuple(map(verdict, scores)),
        np.zeros(len(scores), np.float32),
    )


def evidence(groups: list[Group], right: float, wrong: float) -> list[list[Any]]:
    """The same evidence on every token of a correct completion, and of a wrong one."""
    return [
        [
            np.full(len(r.completion_ids), right if v.status == "correct" else wrong, np.float32)
            for r, v in zip(g.rollouts, g.verdicts, strict=True)
        ]
        for g in groups
    ]


MIXED = [group("a", [1, 0, 0, 0]), group("b", [1, 1, 0, 0]), group("c", [0, 0, 0, 0])]


def probed(groups: list[Group], spec: JobSpec | None = None, **changes: Any) -> dict[str, Any]:
    blank: list[list[Any]] = [[None] * len(g.rollouts) for g in groups]
    given: dict[str, Any] = {"hinted": [], "evidence": blank, **changes}
    holdout = given.pop("holdout", 0)
    return digest(spec or job(), Sample(groups=groups, seconds=SECONDS, **given), holdout=holdout)


def codes(numbers: dict[str, Any], kind: str = "rlsd") -> list[tuple[str, str]]:
    return [(f.level, f.code) for f in findings(numbers, kind=kind, needs_contrast=True, alarm=0.1)]


def test_rates_are_counted_over_judged_completions() -> None:
    groups = [*MIXED, group("d", [1, None, None, 1])]
    numbers = probed(groups)
    assert numbers["pass_rate"] == 5 / 14
    assert numbers["verifier"] == {"correct": 5 / 16, "infra_error": 2 / 16, "wrong": 9 / 16}
    assert numbers["contrast_share"] == 0.5
    assert numbers["groups_without_contrast"] == ["c", "d"]
    json.dumps(numbers)


def test_pass_at_k_is_the_unbiased_estimate() -> None:
    found = probed(MIXED)["pass_at_k"]
    assert found == pytest.approx(
        {"1": (1 / 4 + 2 / 4 + 0) / 3, "2": (1 / 2 + 5 / 6 + 0) / 3, "4": 2 / 3}
    )


def test_the_gap_is_paired_by_task() -> None:
    hinted = [group("a", [1, 1, 1, 0]), group("c", [0, 0, 0, 1])]
    found = probed(MIXED, hinted=hinted)["hinted"]
    assert found["tasks"] == 2
    assert found["pass_rate"] == 0.5
    assert found["gap"]["difference"] == pytest.approx((0.5 + 0.25) / 2)


def test_evidence_is_sized_by_its_tokens_and_its_direction_by_pairs() -> None:
    found = probed(MIXED, evidence=evidence(MIXED, 0.1, -0.3))["evidence"]
    assert found["tokens"] == 24
    assert found["mean_abs"] == pytest.approx((3 * 0.1 + 9 * 0.3) / 12, rel=1e-5)
    assert found["agreement"] == 1.0
    assert found["mean_correct"] == pytest.approx(0.1)
    # 3 correct tokens pairs at exp(0.1), 5 wrong ones at exp(0.3), clipped to 1.2.
    assert found["clipped_share"] == pytest.approx(5 / 8)
    assert found["weight_mean"] == pytest.approx((3 * np.exp(0.1) + 5 * 1.2) / 8, rel=1e-5)


def test_the_weights_are_clipped_as_the_job_says() -> None:
    wide = job(algorithm={"kind": "rlsd", "token_clip": 0.5})
    found = probed(MIXED, wide, evidence=evidence(MIXED, 0.1, -0.3))["evidence"]
    assert found["clipped_share"] == 0
    other = probed(MIXED, job(algorithm={"kind": "grpo"}), evidence=evidence(MIXED, 0.1, -0.3))
    assert other["evidence"]["clipped_share"] == pytest.approx(5 / 8), "RLSD's default"


def test_half_of_the_evidence_lies_on_few_tokens_when_it_is_concentrated() -> None:
    long = [group("a", [1, 0], length=50)]
    spike = np.zeros(50, np.float32)
    spike[7] = 3.0
    even = np.full(50, 0.1, np.float32)
    assert probed(long, evidence=[[spike, spike]])["evidence"]["half_of_it_on"] == 0.01
    assert probed(long, evidence=[[even, even]])["evidence"]["half_of_it_on"] == pytest.approx(
        0.5, abs=0.02
    )


def test_the_estimate_scales_the_sample_to_the_run() -> None:
    spec = job(
        tasks={"train": "t.jsonl", "holdout": "h.jsonl"},
        evaluation={"every": 5, "samples": 2},
        sampling={"group_size": 4, "groups_per_step": 6},
    )
    found = probed(MIXED, spec, holdout=12)["estimate"]
    assert found["step_seconds"] == (8 + 2 + 1 + 9) * 2 + 3
    assert found["evaluation_seconds"] == pytest.approx(10 / 12 * 12 * 2 * 3)
    assert found["run_seconds"] == pytest.approx(43 * 10 + 60)
    overlapped = spec.model_copy(
        update={"sampling": spec.sampling.model_copy(update={"max_staleness": 1})}
    )
    assert probed(MIXED, overlapped)["estimate"]["step_seconds"] == 10 * 2 + 3


def test_a_reward_that_never_varies_is_told_by_name_and_count() -> None:
    constant = [group("a", [0, 0, 0, 0]), group("b", [0, 0, 0, 0])]
    numbers = probed(constant)
    first, *_ = findings(numbers, kind="rlsd", needs_contrast=True, alarm=0.1)
    assert (first.level, first.code) == ("stop", "constant_reward")
    assert "all 8 completions of 2 tasks score 0 (a, b, ...)" in first.message
    assert "easier tasks" in first.message
    solved = findings(probed([group("a", [1, 1])]), kind="grpo", needs_contrast=True, alarm=0.1)[0]
    assert "too easy" in solved.message
    flat = findings(
        probed([group("a", [1, 1]), group("b", [0, 0])]),
        kind="grpo",
        needs_contrast=True,
        alarm=0.1,
    )[0]
    assert "none of 2 groups has contrast" in flat.message


def test_a_constant_reward_stops_nothing_where_the_teacher_teaches() -> None:
    numbers = probed([group("a", [0, 0])])
    found = findings(numbers, kind="opsd", needs_contrast=False, alarm=0.1)
    assert "constant_reward" not in [f.code for f in found]


def test_a_verifier_that_fails_on_everything_stops_and_one_that_fails_now_and_then_warns() -> None:
    assert codes(probed([group("a", [None, None])]))[0] == ("stop", "no_verdicts")
    assert ("warn", "verifier_faults") in codes(probed([*MIXED, group("d", [1, None])]))


def test_a_hint_that_changes_nothing_is_said_so() -> None:
    numbers = probed(MIXED, evidence=evidence(MIXED, 1e-4, -1e-4))
    (told,) = [
        f
        for f in findings(numbers, kind="rlsd", needs_contrast=True, alarm=0.1)
        if f.code == "no_evidence"
    ]
    assert told.message.startswith(
        "the hint changes nothing: RLSD will behave as GRPO here, because"
    )
    assert "no_evidence" not in [c for _, c in codes(probed(MIXED, evidence=evidence(MIXED, 1, 1)))]


@pytest.mark.parametrize(
    ("scores", "code"),
    [
        ([1, 1, 1, 1], ("note", "hint_helps")),
        ([1, 0, 0, 0], ("note", "hint_does_not_help")),
        ([0, 0, 0, 0], ("warn", "hint_hurts")),
    ],
)
def test_the_gap_is_put_in_words(scores: list[float | None], code: tuple[str, str]) -> None:
    groups = [group(name, [1, 0, 0, 0]) for name in "abcd"]
    hinted = [group(name, scores) for name in "abcd"]
    assert code in codes(probed(groups, hinted=hinted))


def test_evidence_that_prefers_wrong_completions_is_told() -> None:
    assert ("note", "evidence_disagrees") in codes(
        probed(MIXED, evidence=evidence(MIXED, -0.3, 0.3))
    )


def test_a_hint_that_leaks_is_a_warning_where_it_would_be_distilled() -> None:
    hinted = [group("a", [1, 0], text="As the reference solution says, 24.")]
    numbers = probed(MIXED, hinted=hinted)
    assert numbers["leaks"]["hinted"]["reference"] == 1.0
    assert ("note", "leak") in codes(numbers, "rlsd")
    assert ("warn", "leak") in codes(numbers, "opsd")


def test_a_sound_sample_has_nothing_to_warn_of() -> None:
    groups = [group(name, [1, 0, 0, 1]) for name in "abcd"]
    numbers = probed(groups, evidence=evidence(groups, 0.2, -0.1))
    assert {level for level, _ in codes(numbers)} == {"note"}
    assert ("note", "teaches") in codes(numbers)
