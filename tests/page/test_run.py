"""One run: its curves, live and whole, and what else the page tells of it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from services.store import Store
from tests.page import written
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


def test_a_stream_that_is_cut_goes_on_behind_its_last_event(seen: Seen) -> None:
    seen.allowed = ["ERR_", "Failed to load"]  # the browser says so too
    job = seen.site.job(3, name="cut", steps=30)
    page = seen.open(f"#/jobs/{job}")
    reward = page.get_by_role("slider", name="Reward by verifier")
    expect(reward).to_have_attribute("aria-valuemax", "3")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    seen.site.kill()
    try:
        expect(page.get_by_text("reconnecting", exact=True)).to_be_visible()
        seen.site.step(job)
    finally:
        seen.site.start()
    expect(reward).to_have_attribute("aria-valuemax", "4")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    page.get_by_role("button", name="Table of Reward by verifier").click()
    steps = page.get_by_role("region", name="Table of Reward by verifier").locator("tbody th")
    assert steps.all_inner_texts() == ["1", "2", "3", "4"]
    told = page.evaluate(
        "async path => (await (await import('/assets/api.js')).api.all(path)).length",
        f"/v1/fine_tuning/jobs/{job}/events",
    )
    page.get_by_role("link", name="Events", exact=True).click()
    expect(page.get_by_text(f"of {told} events")).to_be_visible()
    page.get_by_label("every phase and step").check()
    expect(page.locator(".event")).to_have_count(told)


def test_events_are_found_by_level_and_text_and_shown_a_part_at_a_time(seen: Seen) -> None:
    job = seen.site.job(1, name="talkative")

    async def talk(store: Store) -> None:
        running = written.Running(store, await store.get_job(job), seen.site.home / "jobs" / job)
        for at in range(320):
            level = "error" if at == 7 else "info"
            await running.tell(f"note {at}", {"kind": "note"}, level=level)

    seen.site.ask(talk)
    page = seen.open(f"#/jobs/{job}?tab=events")
    events = page.locator(".event")
    expect(events).to_have_count(300)
    expect(events.first).to_contain_text("note 319")
    page.get_by_role("button", name=re.compile("^Show .* more")).click()
    expect(events.filter(has_text="note 0")).to_have_count(1)
    page.get_by_label("Level").select_option("error")
    expect(events).to_have_count(1)
    expect(events).to_contain_text("note 7")
    page.get_by_label("Level").select_option("")
    page.get_by_label("Text").fill("NOTE 31")
    expect(events).to_have_count(11)
    expect(page).to_have_url(re.compile("tab=events&text=NOTE"))
    page.reload()
    expect(events).to_have_count(11)


def test_a_run_that_goes_quiet_is_called_stalled_where_it_is_listed(seen: Seen) -> None:
    page = seen.open("#/jobs")
    found = page.evaluate("""async () => {
        const { warnings } = await import("/assets/health.js");
        const job = { status: "running", spec: {}, attempts: 1, last_progress_at: 1_000 };
        return [1_000 + 1_700, 1_000 + 1_900].map((now) => warnings(job, now).map((one) => one.name));
    }""")
    assert found == [[], ["stalled"]]
