"""Tiers are bound to the nodes that serve them, unless the job names others."""

from services.config import JobSpec
from services.fit import Node, needs_of
from services.placement import TIERS, Group, bound, label, placed, to_come

JOB = JobSpec.model_validate(
    {
        "model": {"path": "m"},
        "tasks": {"train": "t.jsonl"},
        "tiers": {"rollout": {"labels": {"zone": "a"}, "gpus": 2}, "verifier": {"max_replicas": 3}},
    }
)


def test_a_tier_without_labels_goes_to_the_nodes_that_serve_it() -> None:
    tiers = placed(JOB).tiers
    assert tiers.teacher.labels == {"strop/teacher": "true"}
    assert tiers.trainer.labels == {"strop/trainer": "true"}
    assert tiers.verifier.labels == {"strop/verifier": "true"}


def test_labels_that_a_job_names_stay_alone() -> None:
    assert placed(JOB).tiers.rollout.labels == {"zone": "a"}


def test_placement_changes_nothing_but_labels() -> None:
    unlabelled = {tier: {"labels": {}} for tier in TIERS}
    before = JOB.tiers.model_copy(deep=True).model_dump()
    after = placed(JOB).tiers.model_dump()
    assert {t: {**v, **unlabelled[t]} for t, v in after.items()} == {
        t: {**v, **unlabelled[t]} for t, v in before.items()
    }
    assert placed(JOB).model_copy(update={"tiers": JOB.tiers}) == JOB


def test_every_tier_of_a_job_has_a_label_of_its_own() -> None:
    assert set(TIERS) == set(type(JOB.tiers).model_fields)
    assert len({tuple(label(tier)) for tier in TIERS}) == len(TIERS)


def test_nodes_that_an_autoscaler_may_start_are_those_that_its_groups_lack() -> None:
    groups = [
        Group("rollout", 3, 8, 1),
        Group("verifier", 1, 4, 0),
        Group("trainer-teacher", 1, 2, 0),
    ]
    assert to_come(groups, {"rollout": 1, "verifier": 2}) == [
        Node(8, 1, {"strop/rollout": "true"}),
        Node(8, 1, {"strop/rollout": "true"}),
        Node(2, 0, {"strop/teacher": "true", "strop/trainer": "true"}),
    ]


def test_what_a_job_needs_is_bound_as_its_tiers_are() -> None:
    before, after = (job.model_dump(mode="json") for job in (JOB, placed(JOB)))
    assert bound(needs_of(before)) == needs_of(after) != needs_of(before)
