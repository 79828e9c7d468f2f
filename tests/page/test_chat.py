"""Chat: a trained model next to its base, both as they are written, stopped, and broken off."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.page.answering import BASE, Answering, answering
from tests.page.seen import Seen
from tests.page.served import Site


@pytest.fixture(scope="module")
def served(site: Site) -> Iterator[Answering]:
    with answering(site) as models:
        yield models


@pytest.fixture
def models(served: Answering) -> Answering:
    served.asked.clear()
    served.go_on.clear()
    return served


def panes(page: Page) -> tuple[Locator, Locator]:
    """The trained model's and the base's."""
    trained = page.get_by_role("region", name=re.compile("^Trained"))
    return trained, page.get_by_role("region", name=re.compile("^Base"))


def ask(page: Page, text: str) -> None:
    prompt = page.get_by_label("Prompt for both")
    prompt.fill(text)
    prompt.press("Enter")


@pytest.mark.parametrize("scheme", ["light", "dark"], indirect=True)
def test_both_models_are_seen_writing_and_remember_what_was_said(
    seen: Seen, models: Answering, scheme: str
) -> None:
    def say(asked: dict[str, Any]) -> Iterator[str]:
        yield "17 and 25 "
        assert models.go_on.wait(120)
        yield "make 42." if asked["model"] == models.trained else "make 32."

    models.said = say
    page = seen.open(f"#/chat?model={models.trained}")
    trained, base = panes(page)
    expect(trained.get_by_role("combobox")).to_have_value(models.trained)
    expect(base.get_by_role("combobox")).to_have_value(BASE)
    ask(page, "What is 17 + 25?")
    for pane in (trained, base):
        expect(pane.locator(".turn-assistant")).to_contain_text("17 and 25")
    expect(page.get_by_role("button", name="Answering…")).to_be_disabled()
    models.go_on.set()
    expect(trained.locator(".turn-assistant")).to_contain_text("17 and 25 make 42.")
    expect(base.locator(".turn-assistant")).to_contain_text("17 and 25 make 32.")
    expect(trained.get_by_text("answered in")).to_be_visible()
    assert seen.barriers() == []
    seen.shot(f"chat-{scheme}")
    ask(page, "Sure?")
    expect(trained.locator(".turn-assistant")).to_have_count(2)
    expect(base.locator(".turn-assistant")).to_have_count(2)
    of_base = [asked for asked in models.asked if asked["model"] == BASE]
    assert [turn["content"] for turn in of_base[-1]["messages"]] == [
        "What is 17 + 25?", "17 and 25 make 32.", "Sure?",
    ]  # fmt: skip
    page.get_by_role("button", name="Start over").click()
    expect(page.locator(".turn")).to_have_count(0)


def test_an_answer_is_stopped_while_it_is_written(seen: Seen, models: Answering) -> None:
    models.said = models.held("one", " two")
    page = seen.open(f"#/chat?model={models.trained}")
    ask(page, "Count.")
    trained, base = panes(page)
    expect(trained.locator(".turn-assistant")).to_contain_text("one")
    expect(base.locator(".turn-assistant")).to_contain_text("one")
    page.get_by_role("button", name="Stop").click()
    expect(trained.get_by_text("stopped after")).to_be_visible()
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    models.go_on.set()
    page.wait_for_timeout(500)
    for pane in (trained, base):
        expect(pane.locator(".turn-assistant .said")).to_have_text("one")
        expect(pane.get_by_role("alert")).to_have_count(0)
    ask(page, "Go on.")
    expect(trained.locator(".turn-assistant .said").last).to_have_text("one two")


def test_an_answer_that_breaks_off_says_so_and_keeps_what_came(
    seen: Seen, models: Answering
) -> None:
    def say(asked: dict[str, Any]) -> Iterator[str | None]:
        yield "half of "
        yield None if asked["model"] == BASE else "all of it"

    models.said = say
    page = seen.open(f"#/chat?model={models.trained}")
    ask(page, "Tell.")
    trained, base = panes(page)
    expect(trained.locator(".turn-assistant .said")).to_have_text("half of all of it")
    expect(base.get_by_role("alert")).to_contain_text("The service cannot do that now")
    expect(base.get_by_role("alert")).to_contain_text(BASE)
    expect(base.locator(".turn-assistant .said")).to_have_text("half of ")
    expect(trained.get_by_role("alert")).to_have_count(0)


def test_the_service_going_away_in_mid_answer_is_told(seen: Seen, models: Answering) -> None:
    seen.allowed = ["ERR_", "Failed to load"]  # the browser says so too
    models.said = models.held("one", " two")
    page = seen.open(f"#/chat?model={models.trained}")
    ask(page, "Count.")
    trained, _ = panes(page)
    expect(trained.locator(".turn-assistant")).to_contain_text("one")
    seen.site.kill()
    try:
        expect(trained.get_by_role("alert")).to_contain_text("broke off")
        expect(trained.locator(".turn-assistant .said")).to_have_text("one")
    finally:
        models.go_on.set()
        seen.site.start()
    expect(page.get_by_text("The service answers again.")).to_be_visible()


def test_a_prompt_that_nobody_answered_is_there_to_be_sent_again(
    seen: Seen, models: Answering
) -> None:
    models.said = lambda _: [None]
    page = seen.open(f"#/chat?model={models.trained}")
    ask(page, "Anybody?")
    trained, base = panes(page)
    for pane in (trained, base):
        expect(pane.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Prompt for both")).to_have_value("Anybody?")
    models.said = lambda _: ["Yes."]
    models.asked.clear()
    page.get_by_role("button", name="Send to both").click()
    expect(trained.locator(".turn-assistant .said")).to_have_text("Yes.")
    assert [turn["role"] for turn in models.asked[0]["messages"]] == ["user"]
