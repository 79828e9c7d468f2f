"""Every other view of the page: jobs, the form of a new one, runs compared, chat."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.page.seen import Seen

BOTH = pytest.mark.parametrize("scheme", ["light", "dark"], indirect=True)


@BOTH
def test_the_jobs_are_listed_with_what_calls_for_attention(seen: Seen, scheme: str) -> None:
    flat = {"zero_variance_share": 1.0, "leak_rise": 0.4}
    seen.site.job(3, name=f"troubled-{scheme}", numbers=flat)
    page = seen.open("#/jobs")
    row = page.get_by_role("row", name=re.compile(f"troubled-{scheme}"))
    expect(row).to_contain_text("zero variance")
    expect(row).to_contain_text("leak")
    expect(row).to_contain_text("3 of 12")
    expect(row.get_by_role("img", name="Reward of")).to_be_visible()
    page.get_by_role("link", name="succeeded").click()
    expect(page.get_by_role("link", name="sums")).to_be_visible()
    expect(row).to_have_count(0)
    seen.shot(f"jobs-{scheme}")
    assert seen.barriers() == []


def test_a_key_that_may_only_read_is_offered_nothing_else(seen: Seen) -> None:
    page = seen.open("#/jobs", key=seen.site.key_of("jobs:read"))
    expect(page.get_by_role("link", name="sums").first).to_be_visible()
    expect(page.get_by_role("link", name="New job")).to_have_count(0)
    expect(page.get_by_role("button", name=re.compile("^(Pause|Cancel|Retry)"))).to_have_count(0)


def test_a_job_is_paused_and_cancelled_from_the_list(seen: Seen) -> None:
    job = seen.site.job(1, name="to-cancel")
    page = seen.open("#/jobs")
    page.get_by_role("button", name="Pause to-cancel").click()
    expect(page.get_by_role("row", name=re.compile("to-cancel"))).to_contain_text("pausing")
    page.get_by_role("button", name="Cancel to-cancel").click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.get_by_role("row", name=re.compile("to-cancel"))).to_contain_text("stopping")
    page.goto(f"{seen.site.url}/#/jobs/{job}?tab=events")
    expect(page.get_by_text("Cancellation requested.")).to_be_visible()


def test_a_new_job_is_checked_against_the_schema_while_it_is_written(seen: Seen) -> None:
    page = seen.open("#/jobs/new")
    page.get_by_role("button", name="Queue the job").click()
    expect(page.get_by_role("alert")).to_contain_text("model.path is required")
    size = page.get_by_label("group size")
    size.fill("0")
    size.press("Tab")
    expect(page.get_by_text("must be at least 1").first).to_be_visible()
    expect(size).to_have_attribute("aria-invalid", "true")
    seen.shot("submit")
    assert seen.barriers() == []


def test_what_the_service_refuses_stands_at_the_field(seen: Seen) -> None:
    seen.allowed = ["422"]
    page = seen.open("#/jobs/new")
    page.get_by_label("Model", exact=True).fill("smollm2-135m-instruct")
    page.get_by_label("Training tasks", exact=True).fill("/nowhere/tasks.jsonl")
    page.get_by_role("button", name="Queue the job").click()
    expect(page.get_by_role("alert")).to_contain_text("/nowhere/tasks.jsonl")


@BOTH
def test_runs_are_compared_by_curve_and_by_what_differs_in_their_configs(
    seen: Seen, scheme: str
) -> None:
    page = seen.open(f"#/compare?ids={seen.site.finished},{seen.site.running}")
    expect(page.get_by_role("slider", name="Reward, by step")).to_be_visible()
    seen.shot(f"compare-{scheme}")
    assert seen.barriers() == []
    page.get_by_role("link", name="Config").click()
    expect(page.get_by_role("row", name=re.compile("^steps 12 40$"))).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("^model.path"))).to_have_count(0)
    page.get_by_role("link", name="Rollouts", exact=True).click()
    expect(page.get_by_text("17 and 25 make 42").first).to_be_visible()


def test_a_model_that_cannot_be_asked_is_told(seen: Seen) -> None:
    seen.allowed = ["503", "409"]
    page = seen.open("#/chat")
    page.get_by_label("Prompt for both").fill("What is 1 + 1?")
    page.get_by_role("button", name="Send to both").click()
    expect(page.get_by_role("alert").first).to_be_visible(timeout=60_000)
    seen.shot("chat")
    assert seen.barriers() == []


@pytest.mark.parametrize(
    "address", ["#/jobs", "#/jobs/{finished}", "#/jobs/new", "#/compare", "#/chat"]
)
def test_nothing_is_wider_than_a_phone(seen: Seen, address: str) -> None:
    page = seen.page
    page.set_viewport_size({"width": 390, "height": 844})
    seen.open(address.format(finished=seen.site.finished))
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    seen.shot("phone-" + address.split("/")[1].split("?")[0] + ("-run" if "{" in address else ""))
