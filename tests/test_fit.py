"""Whether tiers fit on nodes, and what is said when they do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.config import JobSpec
from services.fit import Need, Node, matches, needs_of, place


def need(
    tier: str = "trainer", *, count: int = 1, cpus: float = 1, gpus: float = 0, **labels: str
) -> Need:
    return Need(tier, count, cpus, gpus, labels)


def test_a_spec_needs_its_tiers_and_no_teacher_where_the_algorithm_has_none() -> None:
    spec = {"model": {"path": "m"}, "tasks": {"train": "t"}, "tiers": {"trainer": {"gpus": 2}}}
    resolved = JobSpec.model_validate(spec).model_dump(mode="json")
    assert {need.tier: need.gpus for need in needs_of(resolved)} == {
        "rollout": 0, "verifier": 0, "teacher": 0, "trainer": 2,
    }  # fmt: skip
    grpo = JobSpec.model_validate({**spec, "algorithm": {"kind": "grpo"}}).model_dump(mode="json")
    assert [need.tier for need in needs_of(grpo)] == ["rollout", "verifier", "trainer"]


@pytest.mark.parametrize(
    ("needs", "nodes", "reason"),
    [
        ([need(gpus=2)], [Node(8, 1, {})], "needs 2 GPUs for `trainer`; 1 is free"),
        ([need(gpus=1)], [Node(8, 0.25, {})], "needs 1 GPU for `trainer`; 0.25 are free"),
        ([need(count=2, cpus=2)], [Node(3, 0, {})], "needs 4 CPUs for `trainer`; 3 are free"),
        (
            [need(gpus=2)],
            [Node(8, 1, {}), Node(8, 1, {})],
            "needs 2 GPUs on one node for `trainer`; 1 is free on the emptiest",
        ),
        (
            [need(zone="a")],
            [Node(8, 0, {"zone": "b"})],
            "needs a node with the labels zone=a for `trainer`; there is none",
        ),
        (
            [need(cpus=2, zone="a")],
            [Node(8, 0, {"zone": "b"}), Node(1, 0, {"zone": "a"})],
            "needs 2 CPUs with the labels zone=a for `trainer`; 1 is free",
        ),
        (
            [need("rollout", gpus=1), need("trainer", gpus=2)],
            [Node(8, 2, {})],
            "needs 1 GPU for `rollout`; 0 are free",
        ),
        (
            [need(count=2, cpus=2)],
            [Node(3, 0, {}), Node(1, 0, {})],
            "needs 2 times 2 CPUs for `trainer`; what is free is spread over too many nodes",
        ),
        ([need()], [], "needs 1 CPU for `trainer`; 0 are free"),
    ],
)
def test_what_is_missing_is_said_in_words(
    needs: list[Need], nodes: list[Node], reason: str
) -> None:
    assert place(needs, nodes) == reason


def test_demanding_actors_are_placed_first_and_leave_whole_nodes_to_others() -> None:
    nodes = [Node(8, 4, {}), Node(8, 0, {}), Node(2, 1, {"zone": "a"})]
    needs = [need("verifier", count=8), need("trainer", gpus=4), need("rollout", gpus=1, zone="a")]
    placed = place(needs, nodes)
    assert not isinstance(placed, str), placed
    assert sum(node.gpus for node in placed) == 0
    assert sum(node.cpus for node in placed) == 18 - 10


@pytest.mark.parametrize(
    ("value", "selector", "fits"),
    [
        ("a", "a", True), ("a", "b", False), (None, "a", False),
        ("a", "!b", True), ("b", "!b", False), (None, "!b", True),
        ("a", "in(a, b)", True), ("c", "in(a,b)", False), ("c", "!in(a, b)", True),
    ],
)  # fmt: skip
def test_labels_are_selected_as_ray_does(value: str | None, selector: str, fits: bool) -> None:
    labels = {} if value is None else {"zone": value}
    assert matches(labels, {"zone": selector}) is fits


amounts = st.integers(0, 8).map(lambda eighths: eighths / 4)
nodes = st.lists(st.builds(Node, amounts, amounts, st.just({})), max_size=4)
wanted = st.lists(
    st.builds(Need, st.sampled_from(["trainer", "rollout"]), st.integers(1, 3), amounts, amounts,
              st.just({})),
    max_size=3,
)  # fmt: skip


@given(wanted, nodes)
def test_what_is_placed_takes_what_it_needs_and_no_node_gives_more_than_it_has(
    needs: list[Need], nodes: list[Node]
) -> None:
    placed = place(needs, nodes)
    if isinstance(placed, str):
        assert placed.startswith("needs ")
        return
    for before, after in zip(nodes, placed, strict=True):
        assert 0 <= after.cpus <= before.cpus
        assert 0 <= after.gpus <= before.gpus
    for kind in ("cpus", "gpus"):
        taken = sum(getattr(node, kind) for node in nodes) - sum(
            getattr(node, kind) for node in placed
        )
        assert taken == sum(getattr(need, kind) * need.count for need in needs)
