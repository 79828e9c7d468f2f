"""Jobs as a list, runs compared, and what holds of every view: on a phone, by keyboard, by its address."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from services.store import Store
from tests.page import written
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


def test_the_list_of_jobs_goes_on_a_page_at_a_time(seen: Seen) -> None:
    async def fill(store: Store) -> None:
        for at in range(27):
            await store.create_job(written.spec(seen.site.home, name=f"job-{at}"), tenant="pages")

    seen.site.ask(fill)
    page = seen.open("#/jobs", key=seen.site.key_of("jobs:read", tenant="pages"))
    names = page.locator("a.job-name")
    expect(names).to_have_count(25)
    expect(names.first).to_have_text("job-26")
    page.get_by_role("link", name="Older").click()
    expect(names).to_have_text(["job-1", "job-0"])
    page.reload()  # the page is part of the address
    expect(names).to_have_text(["job-1", "job-0"])
    page.get_by_role("link", name="Newest").click()
    expect(names.first).to_have_text("job-26")


OF_A_RUN = [
    ("#/jobs/{run}", "Reward by verifier"),
    ("#/jobs/{run}?tab=events", "models are loaded"),
    ("#/jobs/{run}?tab=config", "sampling.group_size"),
    ("#/jobs/{run}?tab=checkpoints", "ckpt-step"),
    ("#/jobs/{run}?tab=log", "reward"),
    ("#/jobs/{run}/rollouts?status=wrong&step=2", "17 and 25 make 32"),
    ("#/jobs/{run}/rollouts/2-0-1", "Verdict"),
]
OTHERS = [
    ("#/jobs?status=running", "running"),
    ("#/jobs/new", "Model and tasks"),
    ("#/compare?ids={both}&tab=config", "fields differ"),
    ("#/compare?ids={both}&tab=rollouts", "17 and 25 make 42"),
    ("#/chat", "Prompt for both"),
]


@BOTH
def test_a_chat_that_no_model_server_answers_says_so(seen: Seen) -> None:
    seen.allowed = ["503", "409"]
    page = seen.open("#/chat")
    prompt = page.get_by_label("Prompt for both")
    prompt.fill("What is 1 + 1?")
    prompt.press("Enter")
    expect(page.get_by_role("alert").first).to_be_visible(timeout=60_000)
    assert seen.barriers() == []


@pytest.mark.parametrize("run", ["finished", "running", "others"])
def test_every_view_opens_by_its_address_and_has_no_barrier(
    seen: Seen, scheme: str, run: str
) -> None:
    page = seen.open("#/jobs")
    site = seen.site
    ids = {"finished": site.finished, "running": site.running}
    found: dict[str, list[str]] = {}
    for number, (view, told) in enumerate(OTHERS if run == "others" else OF_A_RUN):
        address = view.format(run=ids.get(run), both=",".join(ids.values()))
        page.goto(f"{site.url}/?{number}{address}")  # anew, not within the page
        expect(page.locator("main")).to_contain_text(told)
        if barriers := seen.barriers():
            found[view] = barriers
        name = re.sub(r"\W+", "-", view.replace("{run}", run)).strip("-")
        seen.shot(f"view-{name}-{scheme}")
    assert found == {}
