"""The shell of the page: signing in and out, where it may go, and what it never lets happen."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.page.seen import Seen


def test_a_key_is_asked_for_tried_and_kept_in_this_tab_alone(seen: Seen) -> None:
    page = seen.page
    seen.allowed = ["401"]
    page.goto(seen.site.url)
    expect(page.get_by_role("heading", name="Strop")).to_be_visible()
    key = page.get_by_label("API key")
    expect(key).to_be_focused()
    assert seen.barriers() == []
    seen.shot("login")
    key.fill("strop_0000000000000000_wrong")
    key.press("Enter")
    expect(page.get_by_text("not known here")).to_be_visible()
    key.fill(seen.site.key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    assert page.evaluate("sessionStorage.getItem('strop-key')") == seen.site.key
    assert page.evaluate("JSON.stringify(localStorage)").count("strop_") == 0
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_key_in_the_address_signs_in_and_does_not_stay_there(seen: Seen) -> None:
    page = seen.page
    page.goto(f"{seen.site.url}/#key={seen.site.key}")
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    assert seen.site.key not in page.url


@pytest.mark.parametrize("address", ["#/nowhere", "#/jobs/a/b/c/d", "#/jobs/%E0%A4%A"])
def test_an_address_that_is_none_leads_back(seen: Seen, address: str) -> None:
    page = seen.open(address)
    page.get_by_role("link", name="Go to the jobs").click()
    expect(page).to_have_url(re.compile("#/jobs$"))


def test_colours_are_chosen_kept_and_follow_the_system_when_nobody_chose(seen: Seen) -> None:
    page = seen.open(f"#/jobs/{seen.site.finished}")
    lit = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(lit)
    body = page.locator("body")
    page.emulate_media(color_scheme="dark")
    expect(body).not_to_have_css("background-color", light)
    dark = page.evaluate(lit)
    plot = page.get_by_role("slider", name="Entropy").locator("canvas")
    ink = "one => one.getContext('2d').getImageData(0, 0, one.width, one.height).data.reduce((a, b) => a + b)"

    def drawn_anew(before: int) -> int:
        for _ in range(200):
            if (now := plot.evaluate(ink)) != before:
                return now
            page.wait_for_timeout(50)
        raise AssertionError("the curves keep the colours of the other theme")

    in_dark = drawn_anew(0)
    page.get_by_role("button", name="Colours: automatic").click()
    expect(body).to_have_css("background-color", light)  # chosen, against the system
    in_light = drawn_anew(in_dark)
    page.get_by_role("button", name="Colours: light").click()
    expect(body).to_have_css("background-color", dark)
    drawn_anew(in_light)
    page.emulate_media(color_scheme="light")
    page.reload()
    expect(plot).to_be_visible()  # a click meets nothing while the page still moves
    expect(page.get_by_role("button", name="Colours: dark")).to_be_visible()
    expect(body).to_have_css("background-color", dark)
    page.get_by_role("button", name="Colours: dark").click()
    expect(body).to_have_css("background-color", light)


def test_the_keyboard_skips_the_bar_and_begins_at_each_new_view(seen: Seen) -> None:
    page = seen.open("#/jobs?status=succeeded")
    expect(page.get_by_role("link", name="sums", exact=True)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    jobs = page.locator("a.job-name")
    jobs.first.focus()
    if jobs.count() > 1:
        page.keyboard.press("ArrowDown")
        expect(jobs.nth(1)).to_be_focused()
        page.keyboard.press("ArrowUp")
    expect(jobs.first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("#/jobs/ftjob-"))
    expect(page.locator("main")).to_be_focused()
    rollouts = page.get_by_role("link", name="Rollouts", exact=True)
    expect(rollouts).to_be_visible()
    page.keyboard.press("Tab")
    expect(rollouts).to_be_focused()


def test_a_view_that_fails_says_so_and_the_others_go_on(seen: Seen) -> None:
    seen.allowed = ["evil", "of undefined"]
    page = seen.page
    page.route("**/v1/fine_tuning/jobs?*", lambda route: route.fulfill(json={"evil": True}))
    seen.open("#/jobs")
    expect(page.get_by_role("alert")).to_contain_text("The page failed")
    page.get_by_role("link", name="Chat").click()
    expect(page.get_by_role("heading", name="Chat")).to_be_visible()
