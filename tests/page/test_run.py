"""One run: its curves, live and whole, and what else the page tells of it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.page.seen import Seen

BOTH = pytest.mark.parametrize("scheme", ["light", "dark"], indirect=True)


@BOTH
def test_a_finished_run_shows_every_curve_that_it_has_numbers_for(seen: Seen, scheme: str) -> None:
    page = seen.open(f"#/jobs/{seen.site.finished}")
    expect(page.get_by_role("heading", name="sums", level=1)).to_be_visible()
    for title in (
        "Reward by verifier", "Accuracy on held-out tasks", "Entropy", "Completion length",
        "Evidence by the sign", "Credit: share that evidence moves", "Time of a step by phase",
        "Bubbles", "Leaks", "Groups without contrast", "KL to the start", "Engine against learner",
    ):  # fmt: skip
        expect(page.get_by_role("slider", name=title)).to_be_visible()
    expect(page.get_by_text("95 % interval")).to_be_visible()
    assert page.locator(".chart canvas").count() >= 12
    seen.shot(f"run-{scheme}")
    assert seen.barriers() == []


def test_the_keyboard_moves_along_a_curve_and_opens_the_steps_rollouts(seen: Seen) -> None:
    page = seen.open(f"#/jobs/{seen.site.finished}")
    reward = page.get_by_role("slider", name="Reward by verifier")
    reward.focus()
    reward.press("Home")
    expect(reward).to_have_attribute("aria-valuenow", "1")
    reward.press("ArrowRight")
    expect(reward).to_have_attribute("aria-valuetext", re.compile("^step 2: .*math 0"))
    reward.press("Enter")
    expect(page).to_have_url(re.compile(r"#/jobs/[^/]+/rollouts\?step=2$"))


def test_a_click_on_a_step_opens_its_rollouts(seen: Seen) -> None:
    page = seen.open(f"#/jobs/{seen.site.finished}")
    page.get_by_role("slider", name="Reward by verifier").click()
    expect(page).to_have_url(re.compile(r"#/jobs/[^/]+/rollouts\?step=\d+$"))


def test_a_running_run_grows_without_being_asked(seen: Seen) -> None:
    job = seen.site.job(3, name="growing", steps=30)
    page = seen.open(f"#/jobs/{job}")
    reward = page.get_by_role("slider", name="Reward by verifier")
    expect(reward).to_have_attribute("aria-valuemax", "3")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    seen.site.step(job)
    expect(reward).to_have_attribute("aria-valuemax", "4")
    expect(page.locator(".reading", has_text="Steps")).to_contain_text("4 of 30")
