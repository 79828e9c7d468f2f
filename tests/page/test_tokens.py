"""Tokens: a completion as a heat map, by pointer and by keyboard, of any text and any length."""

from __future__ import annotations

import itertools
import random
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.page import traced
from tests.page.seen import Seen
from tests.page.served import Site
from tests.page.traced import END, Asked, Told, pieces
from verifiers.verdict import Verdict

LONG = 8_192
SAID = "First,\t3 × 4 is\n\n  twelve.\nSo the answer is 12.\n"
WRONG = Verdict(0.0, "wrong", {"gold": "12", "extracted": "twelve", "found": "phrase"})
RIGHT = Verdict(1.0, "correct", {"gold": "12", "extracted": "12", "found": "phrase"})


@pytest.fixture(scope="session")
def job(site: Site) -> str:
    """A job whose first step has one short group, and whose second has long completions."""
    rng = random.Random(3)
    words = [
        " the",
        " answer",
        " is",
        " so",
        "tion",
        " 12",
        "\n",
        ".\n\n",
        " x",
        " =",
        " therefore",
        ",",
    ]
    long = [rng.choice(words) for _ in range(LONG)]
    unbroken = [word.replace("\n", "") or " y" for word in long]
    snowman = "☃".encode()
    short = [
        Told([*pieces(SAID), END], WRONG, -1.0),
        Told([*pieces(SAID), END], RIGHT, 1.0),
        Told(["A ", snowman[:1], snowman[1:2], snowman[2:], " melts", END], RIGHT, 1.0),
        Told([], Verdict(0.0, "malformed", {"reason": "an empty completion"})),
    ]
    folder = Path(site.home) / "jobs"
    job = site.job(0, name="tokens")
    traced.write(
        folder / job / "traces",
        1,
        [Asked(short), Asked([Told(long, WRONG), Told(unbroken, RIGHT, 1.0)])],
    )
    return job


def opened(seen: Seen, job: str, rollout: str, **query: Any) -> Page:
    search = "&".join(f"{name}={value}" for name, value in query.items())
    page = seen.open(f"#/jobs/{job}/rollouts/{rollout}{'?' + search if search else ''}")
    expect(page.locator(".heat .token").first).to_be_visible()
    return page


def heat(page: Page) -> Any:
    return page.locator(".heat")


def token(page: Page, index: int) -> Any:
    return heat(page).locator(".token").nth(index)


def copied(page: Page) -> str:
    """What the clipboard would get of the whole heat map."""
    return page.evaluate(
        """() => {
            const box = document.querySelector(".heat");
            document.getSelection().selectAllChildren(box);
            const data = new DataTransfer();
            const event = new ClipboardEvent("copy", { clipboardData: data, bubbles: true, cancelable: true });
            box.dispatchEvent(event);
            document.getSelection().removeAllRanges();
            return data.getData("text/plain");
        }"""
    )


def test_a_text_is_shown_and_copied_as_it_is_with_special_tokens_apart(
    seen: Seen, job: str
) -> None:
    page = opened(seen, job, "1-0-0")
    assert heat(page).locator(".token").all_text_contents() == [*pieces(SAID), END]
    assert copied(page) == SAID + END
    expect(heat(page).locator(".special")).to_have_text(END)
    assert heat(page).locator(".line-end").count() == SAID.count("\n")
    assert heat(page).locator(".tab").count() == 1
    marked = heat(page).locator(".in-answer").all_text_contents()
    assert marked == [" twelve"]


def test_bytes_of_one_character_are_tokens_of_their_own(seen: Seen, job: str) -> None:
    page = opened(seen, job, "1-0-2")
    assert heat(page).locator(".token").all_text_contents() == ["A ", "", "", "☃", " melts", END]
    assert heat(page).locator(".part").count() == 2
    token(page, 1).click()
    details = page.locator(".details")
    expect(details).to_contain_text("Token 2")
    expect(details).to_contain_text("Bytes of a character that a later token ends")
    assert copied(page) == f"A ☃ melts{END}"


def test_an_empty_completion_says_so(seen: Seen, job: str) -> None:
    page = seen.open(f"#/jobs/{job}/rollouts/1-0-3")
    expect(page.get_by_text("The completion is empty")).to_be_visible()


def test_streams_colour_the_tokens_by_sign_and_size(seen: Seen, job: str) -> None:
    page = opened(seen, job, "1-0-1")
    answer = page.evaluate(
        "async path => (await (await import('/assets/api.js')).api.get(path)).streams",
        f"/v1/fine_tuning/jobs/{job}/rollouts/1-0-1",
    )
    for name, label in (
        ("evidence", "Evidence"),
        ("credit", "Credit"),
        ("teacher_logprob", "Teacher log-prob"),
        ("student_logprob", "Student log-prob"),
        ("entropy", "Entropy"),
        ("weight", "Token weight"),
    ):
        page.get_by_role("radio", name=label).check(force=True)
        expect(page).to_have_url(re.compile(f"stream={name}"))
        origin = 1 if name == "weight" else 0
        values: list[float] = answer[name]
        shades = heat(page).locator(".token").evaluate_all("all => all.map(one => one.className)")
        strength = [int(found[1]) if (found := re.search(r"-(\d)", s)) else 0 for s in shades]
        for value, shade in zip(values, shades, strict=True):
            signed = name in ("evidence", "credit", "weight")
            assert not ("up-" in shade and (value < origin or not signed)), (name, value, shade)
            assert not ("down-" in shade and (value > origin or not signed)), (name, value, shade)
        ranked = sorted(range(len(values)), key=lambda i: abs(values[i] - origin))
        assert all(strength[a] <= strength[b] for a, b in itertools.pairwise(ranked)), name
        assert strength[ranked[-1]] == 7
    expect(page.locator(".heat-legend")).to_contain_text("1")


def test_a_token_tells_its_numbers_and_alternatives_by_pointer_and_by_keyboard(
    seen: Seen, job: str
) -> None:
    page = opened(seen, job, "1-0-0")
    details = page.locator(".details")
    token(page, 2).hover()
    expect(details).to_contain_text("Token 3 of 22")
    for name in ("Credit", "Evidence", "Teacher log-prob", "Student log-prob", "Entropy"):
        expect(details.get_by_role("row", name=name)).to_be_visible()
    expect(details.get_by_text("Policy’s likeliest tokens here")).to_be_visible()
    expect(details.locator(".alternatives .sampled")).to_contain_text("77.9 %")
    page.mouse.move(2, 2)
    heat(page).locator("[tabindex='0']").focus()
    expect(details).to_contain_text("Token 1 of 22")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(token(page, 2)).to_be_focused()
    expect(details).to_contain_text("Token 3 of 22")
    expect(page).to_have_url(re.compile("token=2"))
    page.keyboard.press("ArrowLeft")
    expect(details).to_contain_text("Token 2 of 22")
    spoken = page.locator("[aria-live=polite]").last
    expect(spoken).to_contain_text("credit")
    assert heat(page).locator("[tabindex]").count() == 1


def test_lines_are_walked_up_and_down_and_to_their_ends(seen: Seen, job: str) -> None:
    page = opened(seen, job, "1-0-0")
    lines = [line.split() for line in SAID.split("\n")]
    assert lines[3][0] == "So"
    heat(page).locator("[tabindex='0']").focus()

    def here() -> str:
        return page.evaluate("document.activeElement.textContent")

    for key, wanted in (
        ("ArrowDown", "\n"),  # the empty line
        ("ArrowDown", " "),  # the indent of the third
        ("ArrowDown", "So"),
        ("End", "\n"),
        ("ArrowUp", "\n"),
        ("Home", " "),
        ("Control+End", END),
        ("ArrowRight", END),
        ("Control+Home", "First"),
        ("ArrowLeft", "First"),
        ("PageDown", END),
    ):
        page.keyboard.press(key)
        assert here() == wanted, key


def test_an_address_names_stream_and_token(seen: Seen, job: str) -> None:
    page = opened(seen, job, "1-1-0", stream="evidence", token=7_000)
    expect(page.get_by_role("radio", name="Evidence")).to_be_checked()
    expect(page.locator(".details")).to_contain_text("Token 7,001 of 8,192")
    expect(heat(page).locator("[tabindex='0']")).to_be_in_viewport()
    page.get_by_role("link", name="Sibling ›").click()
    expect(page).to_have_url(re.compile("rollouts/1-1-1.*stream=evidence"))


def test_the_strongest_tokens_are_listed_and_lead_to_their_place(seen: Seen, job: str) -> None:
    page = opened(seen, job, "1-1-0", stream="evidence")
    first = page.locator(".strongest li button").first
    place = int(first.locator(".soft").inner_text().replace(",", ""))
    first.click()
    expect(page.locator(".details")).to_contain_text(f"Token {place:,} of")
    expect(heat(page).locator(":focus")).to_be_in_viewport()


def test_the_strip_along_the_completion_jumps_where_it_is_clicked(seen: Seen, job: str) -> None:
    page = opened(seen, job, "1-1-1")
    strip = page.locator("canvas.trail")
    box = strip.bounding_box()
    assert box is not None
    strip.click(position={"x": box["width"] * 0.75, "y": 20})
    expect(page.locator(".details h2")).to_contain_text(re.compile(r"Token 6,1\d\d"))


def test_what_the_teacher_read_and_the_prompt_are_folded(seen: Seen, job: str) -> None:
    page = opened(seen, job, "1-0-0")
    turn = page.get_by_text("The right answer is 12.")
    expect(turn).not_to_be_visible()
    page.get_by_text("What only the teacher read").click()
    expect(turn).to_be_visible()
    question = page.get_by_text("What is 3 × 4?")
    expect(question).not_to_be_visible()
    page.get_by_text("Prompt", exact=True).click()
    expect(question).to_be_visible()


def test_streams_that_an_algorithm_has_not_are_shown_as_absent(seen: Seen) -> None:
    job = seen.site.job(0, name="grpo")
    folder = Path(seen.site.home) / "jobs" / job / "traces"
    traced.write(folder, 1, [Asked([Told([*pieces(SAID), END], RIGHT, 1.0)])], taught=False)
    page = opened(seen, job, "1-0-0")
    expect(page.get_by_role("radio", name="Evidence")).to_be_disabled()
    expect(page.get_by_role("radio", name="Teacher log-prob")).to_be_disabled()
    expect(page.get_by_role("radio", name="Credit")).to_be_checked()
    (folder / "vocabulary.parquet").unlink()
    page.reload()
    expect(page.get_by_text("written by an earlier release")).to_be_visible()
    expect(page.get_by_text("So the answer is 12.")).to_be_visible()


@pytest.mark.parametrize("rollout", ["1-1-0", "1-1-1"], ids=["lines", "one line"])
def test_8192_tokens_are_there_at_once_and_drawn_as_they_are_seen(
    seen: Seen, job: str, rollout: str
) -> None:
    page = opened(seen, job, rollout)
    assert heat(page).locator(".token").count() < LONG / 2
    text = page.evaluate("document.querySelector('.heat').textContent")
    assert copied(page) == text
    cut = heat(page).locator(".goes-on").count()
    assert cut == 0 if rollout == "1-1-0" else cut > 30
    page.get_by_role("radio", name="Evidence").check(force=True)
    heat(page).locator("[tabindex='0']").focus()
    page.keyboard.press("Control+End")
    expect(page.locator(".details")).to_contain_text("Token 8,192 of 8,192")
    expect(heat(page).locator(":focus")).to_be_in_viewport()
    page.keyboard.press("ArrowUp")
    expect(heat(page).locator(":focus")).to_be_in_viewport()
    assert page.evaluate("document.querySelector('.heat').textContent") == text


CONTRASTS = """
() => {
    const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const light = colour => {
        pen.clearRect(0, 0, 1, 1);
        pen.fillStyle = colour;
        pen.fillRect(0, 0, 1, 1);
        const [red, green, blue] = [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3)
            .map(part => part / 255)
            .map(part => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const box = document.querySelector(".heat");
    const found = {};
    for (const side of ["up", "down", "much"]) for (let shade = 1; shade <= 7; shade++) {
        const span = document.createElement("span");
        span.className = `token ${side}-${shade}`;
        span.textContent = "x";
        box.append(span);
        const style = getComputedStyle(span);
        const [one, other] = [light(style.color), light(style.backgroundColor)].sort((a, b) => b - a);
        found[`${side}-${shade}`] = [(one + 0.05) / (other + 0.05), style.backgroundColor,
            style.textDecorationStyle];
        span.remove();
    }
    return found;
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"], indirect=True)
def test_text_on_every_shade_has_a_contrast_of_4_5_and_shades_differ(
    seen: Seen, job: str, scheme: str
) -> None:
    page = opened(seen, job, "1-0-0")
    found: dict[str, tuple[float, str, str]] = page.evaluate(CONTRASTS)
    assert len(found) == 21
    least = min(contrast for contrast, _, _ in found.values())
    print(f"\n{scheme}: the least contrast is {least:.2f}")
    assert least >= 4.5, found
    assert len({colour for _, colour, _ in found.values()}) == 21
    assert {style for name, (_, _, style) in found.items() if name[:2] == "up"} == {"solid"}
    assert {style for name, (_, _, style) in found.items() if name[:2] == "do"} == {"dashed"}


@pytest.mark.parametrize("scheme", ["light", "dark"], indirect=True)
def test_tokens_have_no_barrier_and_a_picture(seen: Seen, job: str, scheme: str) -> None:
    page = opened(seen, job, "1-0-0", stream="evidence", token=5)
    page.get_by_text("What only the teacher read").click()
    assert seen.barriers() == []
    seen.shot(f"tokens-{scheme}")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    seen.shot(f"tokens-narrow-{scheme}")
    page.set_viewport_size({"width": 1280, "height": 800})
    page = opened(seen, job, "1-1-0", stream="teacher_logprob")
    expect(page.locator(".strongest li").first).to_be_visible()
    page.screenshot(path=seen.shot(f"tokens-long-{scheme}"))
