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
