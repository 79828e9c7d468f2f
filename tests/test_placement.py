"""Tiers are bound to the nodes that serve them, unless the job names others."""

from services.config import JobSpec
from services.placement import TIERS, label, placed

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
