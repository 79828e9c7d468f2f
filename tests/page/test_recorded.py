"""Every view of a run that really happened: the one that comes with the package, and its rival."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from services.recordings import DEMO
from tests.page.seen import Seen

pytestmark = pytest.mark.skipif(
    not DEMO.exists(), reason="no recorded run: python examples/quickstart/record.py makes it"
)


@pytest.mark.parametrize("scheme", ["light", "dark"], indirect=True)
def test_every_view_shows_the_recorded_run_without_a_barrier(seen: Seen, scheme: str) -> None:
    run, rival = seen.site.recorded
    views = [
        ("#/jobs", "quickstart-grpo"),
        (f"#/jobs/{run}", "Reward by verifier"),
        (f"#/jobs/{run}?tab=events", "held-out accuracy"),
        (f"#/jobs/{run}?tab=config", "algorithm.kind"),
        (f"#/jobs/{run}/rollouts?status=correct&step=2", "correct"),
        (f"#/jobs/{run}/rollouts/2-0-1", "Verdict"),
        (f"#/compare?ids={run},{rival}&tab=config", "algorithm.kind"),
        (f"#/compare?ids={run},{rival}&tab=rollouts", "sums"),
    ]
    page = seen.open("#/jobs")
    found: dict[str, list[str]] = {}
    for number, (view, told) in enumerate(views):
        page.goto(f"{seen.site.url}/?{number}{view}")  # anew, not within the page
        expect(page.locator("main")).to_contain_text(told)
        if barriers := seen.barriers():
            found[view] = barriers
        name = re.sub(r"\W+", "-", view.replace(run, "run").replace(rival, "rival")).strip("-")
        seen.shot(f"recorded-{name}-{scheme}")
    assert found == {}


def test_the_tokens_of_a_recorded_rollout_are_coloured_by_what_the_teacher_knew(
    seen: Seen,
) -> None:
    page = seen.open(f"#/jobs/{seen.site.recorded[0]}/rollouts/1-0-0")
    tokens = page.locator(".heat .token")
    expect(tokens.first).to_be_visible()
    assert tokens.count() > 1
    page.get_by_role("radio", name="Evidence").check(force=True)
    shades = set(tokens.evaluate_all("all => all.map(one => one.className)"))
    assert len(shades) > 1, "evidence differs from token to token"
