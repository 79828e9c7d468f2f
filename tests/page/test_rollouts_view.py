"""Rollouts: found by what they are like, walked by keyboard, and their verdicts understood."""

from __future__ import annotations

import json
import random
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.page import traced
from tests.page.seen import Seen
from tests.page.served import Site
from tests.page.traced import Asked, Told, pieces
from verifiers.judge import judge
from verifiers.spec import parse_spec
from verifiers.verdict import Verdict


def rows(page: Page) -> Any:
    return page.locator("tr[data-row]")


def columns(page: Page) -> Any:
    return page.locator("[data-sibling]")


def test_filters_live_in_the_address_and_back_undoes_them(seen: Seen) -> None:
    page = seen.open(f"#/jobs/{seen.site.finished}/rollouts")
    expect(rows(page)).to_have_count(50)
    page.get_by_label("Status").select_option("wrong")
    expect(page).to_have_url(re.compile("status=wrong"))
    expect(rows(page).filter(has_text="correct")).to_have_count(0)
    page.get_by_label("Step", exact=True).fill("3")
    page.get_by_label("Step", exact=True).press("Enter")
    expect(rows(page)).to_have_count(6)
    page.get_by_label("Completion contains").fill("MAKE 32")
    page.get_by_label("Completion contains").press("Enter")
    expect(page).to_have_url(re.compile("text=MAKE"))
    expect(rows(page)).to_have_count(6)
    page.go_back()
    expect(page.get_by_label("Completion contains")).to_have_value("")
    page.go_back()
    expect(page.get_by_label("Step", exact=True)).to_have_value("")
    expect(page.get_by_label("Status")).to_have_value("wrong")
    page.reload()
    expect(page.get_by_label("Status")).to_have_value("wrong")
    expect(rows(page).first).to_contain_text("wrong")
    page.get_by_role("link", name="Clear").click()
    expect(rows(page).filter(has_text="correct").first).to_be_visible()


def test_a_range_of_rewards_and_a_filter_that_fits_nothing(seen: Seen) -> None:
    page = seen.open(f"#/jobs/{seen.site.finished}/rollouts?step=1&min_score=0.5")
    expect(rows(page)).to_have_count(6)
    page.goto(f"{seen.site.url}/#/jobs/{seen.site.finished}/rollouts?verifier=sql")
    expect(page.get_by_text("No rollout of this job fits these filters")).to_be_visible()


def test_a_list_longer_than_a_page_goes_on_where_it_ended(seen: Seen) -> None:
    page = seen.open(f"#/jobs/{seen.site.finished}/rollouts?order=desc")
    expect(rows(page).first).to_contain_text("12-0-0")
    page.get_by_role("button", name="Load more").click()
    expect(rows(page)).to_have_count(100)
    page.get_by_role("button", name="Load more").click()
    expect(page.get_by_text("144 shown, no more")).to_be_visible()
    names = rows(page).evaluate_all("all => all.map(row => row.dataset.row)")
    assert len(set(names)) == 144


def test_arrow_keys_walk_rows_and_siblings_and_enter_opens_the_tokens(seen: Seen) -> None:
    page = seen.open(f"#/jobs/{seen.site.finished}/rollouts?step=2")
    rows(page).first.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator('tr[data-row="2-0-1"]')).to_be_focused()
    expect(columns(page)).to_have_count(4)
    page.keyboard.press("ArrowRight")
    expect(page.locator('[data-sibling="2-0-2"]')).to_be_focused()
    expect(page).to_have_url(re.compile("at=2-0-2"))
    for _ in range(2):
        page.keyboard.press("ArrowDown")
    expect(page.locator('[data-sibling="2-1-0"]')).to_be_focused()
    page.keyboard.press("ArrowLeft")  # the first has nothing to its left
    expect(page.locator('[data-sibling="2-1-0"]')).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/rollouts/2-1-0"))
    page.go_back()
    expect(page).to_have_url(re.compile("at=2-1-0"))


def test_a_running_job_shows_its_new_step_when_asked_again(seen: Seen) -> None:
    job = seen.site.job(1, name="fresh", steps=9)
    page = seen.open(f"#/jobs/{job}/rollouts")
    expect(rows(page)).to_have_count(12)
    seen.site.step(job)
    page.get_by_role("button", name="Refresh").click()
    expect(rows(page)).to_have_count(24)


def test_a_job_without_rollouts_and_an_address_that_names_none(seen: Seen) -> None:
    job = seen.site.job(0, name="idle")
    page = seen.open(f"#/jobs/{job}/rollouts")
    expect(page.get_by_text("This job has no rollouts yet")).to_be_visible()
    page.goto(f"{seen.site.url}/#/jobs/{seen.site.finished}/rollouts?step=1&at=77-0-0")
    expect(page.get_by_text("This job has no such group")).to_be_visible()
    seen.allowed = ["404"]
    page.goto(f"{seen.site.url}/#/jobs/ftjob-unknown/rollouts")
    expect(page.get_by_role("alert").first).to_contain_text("Not found")


SCHEMA = {
    "type": "object",
    "properties": {
        "lines": {"type": "array", "items": {"properties": {"a/b": {"type": "string"}}}}
    },
}
JSON_SAID = 'Sure:\n```json\n{"lines": [{"a/b": "x"}, {"a/b": 7}]}\n```'


def judged(spec: dict[str, Any], completion: str) -> Asked:
    """A task with one completion, and what the verifier itself says of it."""
    verdict = judge(parse_spec(spec), completion)
    return Asked([Told(pieces(completion), verdict)], id=spec["kind"], verifier=spec)


@pytest.fixture(scope="session")
def verdicts(site: Site, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A job of which each group is one kind of verifier; answers its id."""
    database = tmp_path_factory.mktemp("sql") / "shop.db"
    with sqlite3.connect(database) as connection:
        connection.executescript(
            "CREATE TABLE item (name TEXT, price REAL, sold INTEGER);"
            "INSERT INTO item VALUES ('pen, blue', 1.5, 3), ('ink', 8.25, NULL);"
        )
    connection.close()
    sql = {
        "kind": "sql",
        "database": str(database),
        "query": "SELECT name, price, sold FROM item ORDER BY price",
    }
    math = {"kind": "math", "answer": "12"}
    groups = [
        judged(math, "<think>12 or 13?</think> So it is \\boxed{13}, not 12."),
        judged(sql, "```sql\nSELECT name, price * 2, sold FROM item ORDER BY price\n```"),
        judged({"kind": "schema", "schema": SCHEMA}, JSON_SAID),
        judged({"kind": "schema", "schema": True, "expected": {"a": 1, "b": 2}}, '{"a": 1}'),
        judged({"kind": "choice", "answer": "B", "choices": ["red", "blue"]}, "The answer is A."),
        judged({"kind": "text", "answer": "Paris"}, "The answer is **Rome**."),
        judged(
            {
                "kind": "composite",
                "gate": {"kind": "text", "regex": ".*", "extract": {"kind": "text"}},
                "parts": [
                    {"verifier": math, "name": "sum"},
                    {"verifier": {"kind": "composite", "parts": [{"verifier": math}]}},
                ],
            },
            "It is \\boxed{13}",
        ),
        Asked(
            [
                Told(
                    pieces("def add(a, b):\n    return a - b"),
                    Verdict(
                        0.0,
                        "wrong",
                        {
                            "passed": 1,
                            "tests": 3,
                            "failed": 1,
                            "test": "assert add(2, 2) == 4",
                            "reason": "AssertionError: 0 == 4",
                            "output": "a=2\nb=2\n",
                        },
                    ),
                )
            ],
            id="code",
            verifier={"kind": "code", "tests": ["assert add(2, 2) == 4"]},
        ),
        Asked(
            [
                Told(
                    pieces("hello"),
                    Verdict(
                        0.25,
                        "wrong",
                        {
                            "grader": "https://grader.example/score",
                            "evidence": json.dumps({"style": 0.5, "notes": ["too long"]}),
                        },
                    ),
                )
            ],
            id="remote",
            verifier={"kind": "remote", "url": "https://grader.example/score"},
        ),
        Asked(
            [
                Told(
                    pieces("x"),
                    Verdict(
                        0.0, "wrong", {"mood": {"grim": [1, None]}, "limit": "cpu", "seconds": 2}
                    ),
                )
            ],
            id="odd",
        ),
    ]
    job = site.job(0, name="verdicts")
    traced.write(Path(site.home) / "jobs" / job / "traces", 1, groups)
    return job


def column(seen: Seen, job: str, group: int) -> Any:
    page = seen.open(f"#/jobs/{job}/rollouts?step=1&at=1-{group}-0")
    shown = page.locator(f'[data-sibling="1-{group}-0"]')
    expect(shown).to_be_visible()
    return shown


def test_a_wrong_answer_stands_beside_the_gold_and_is_marked_where_it_stands(
    seen: Seen, verdicts: str
) -> None:
    shown = column(seen, verdicts, 0)
    assert facts(shown) == {"Answer": "13", "Gold": "12", "Found in": "boxed"}
    mark = shown.locator(".completion mark.answer")
    expect(mark).to_have_text("13")
    assert mark.evaluate("mark => mark.previousSibling.data").endswith("\\boxed{")
    text = column(seen, verdicts, 5)
    assert facts(text) == {"Answer": "Rome**", "Gold": "Paris", "Found in": "phrase"}
    expect(text.locator(".completion mark.answer")).to_contain_text("Rome")
    choice = facts(column(seen, verdicts, 4))
    assert (choice["Chosen option"], choice["Gold option"]) == ("A", "B")


def facts(shown: Any) -> dict[str, str]:
    pairs = shown.locator("dl.facts > div").evaluate_all(
        "all => all.map(one => [...one.children].map(part => part.textContent))"
    )
    return dict(pairs)


def test_a_differing_row_stands_below_the_gold_row_with_its_cells_marked(
    seen: Seen, verdicts: str
) -> None:
    shown = column(seen, verdicts, 1)
    cells = shown.locator("table.rows tbody tr").evaluate_all(
        "all => all.map(row => [...row.cells].slice(1).map(cell => [cell.querySelector('code').textContent,"
        " cell.className]))"
    )
    assert cells == [
        [["'pen, blue'", ""], ["1.5", "differs"], ["3", ""]],
        [["'pen, blue'", ""], ["3.0", "differs"], ["3", ""]],
    ]
    expect(shown.get_by_text("Row 1 differs")).to_be_visible()


def test_a_json_pointer_is_marked_in_the_completion(seen: Seen, verdicts: str) -> None:
    shown = column(seen, verdicts, 2)
    expect(shown.locator("code.pointer")).to_have_text("/lines/1/a~1b")
    for place in (".evidence", ".completion"):
        expect(shown.locator(f"{place} mark.pointer")).to_have_text("7")
    missing = column(seen, verdicts, 3)
    expect(missing.locator(".completion mark.pointer")).to_have_text('{"a": 1}')
    expect(missing.get_by_text("/b is missing here")).to_be_visible()


def test_a_failing_test_is_shown_with_its_output(seen: Seen, verdicts: str) -> None:
    shown = column(seen, verdicts, 7)
    expect(shown.get_by_text("1 of 3 tests passed")).to_be_visible()
    expect(shown.get_by_role("heading", name="Failing test 2")).to_be_visible()
    said = shown.locator(".evidence .code")
    expect(said.first).to_have_text("assert add(2, 2) == 4")
    expect(said.last).to_have_text("a=2\nb=2\n")


def test_parts_of_a_composite_a_remote_grader_and_unknown_evidence(
    seen: Seen, verdicts: str
) -> None:
    shown = column(seen, verdicts, 6)
    parts = shown.locator(".evidence > table.parts tbody tr").all_inner_texts()
    assert [re.split(r"\s*\t\s*", part)[0] for part in parts] == ["gate", "sum", "1: composite"]
    expect(shown.locator(".nested dl.facts").first).to_contain_text("13")
    expect(shown.locator(".completion mark.answer")).to_have_text("13")
    remote = column(seen, verdicts, 8)
    expect(remote.locator("dl.tree").first).to_contain_text("too long")
    assert remote.get_by_role("link", name="grader.example").count() == 0
    odd = column(seen, verdicts, 9)
    expect(odd.locator("dl.tree").first).to_contain_text("grim")
    expect(odd.get_by_text("Out of cpu after 2 s")).to_be_visible()


def test_the_place_of_a_pointer_is_the_value_it_names_in_any_json(seen: Seen) -> None:
    page = seen.open()
    rng = random.Random(6)

    def value(depth: int) -> Any:
        kind = rng.choice(
            ["object", "array", "text", "number", "word"] if depth else ["text", "number"]
        )
        if kind == "object":
            names = rng.sample(["a", "a/b", "~", "", 'é"\\', "__proto__", "0"], rng.randint(0, 4))
            return {name: value(depth - 1) for name in names}
        if kind == "array":
            return [value(depth - 1) for _ in range(rng.randint(0, 3))]
        if kind == "text":
            return rng.choice(['}"', "[1, 2]", "\\", "a: {", "né\n", ""])
        return rng.choice([-1.5e-3, 0, 12]) if kind == "number" else rng.choice([True, None])

    def pointers(of: Any, at: str = "") -> Any:
        yield at, of
        parts = (
            of.items() if isinstance(of, dict) else enumerate(of) if isinstance(of, list) else ()
        )
        for name, part in parts:
            step = str(name).replace("~", "~0").replace("/", "~1")
            yield from pointers(part, f"{at}/{step}")

    asked: list[tuple[str, int, str]] = []
    wanted: list[Any] = []
    for _ in range(60):
        whole = value(3)
        before = rng.choice(["", "Here: ", "```json\n"])
        indent = rng.choice([None, 2])
        text = before + json.dumps(whole, indent=indent, ensure_ascii=rng.random() < 0.5) + "\n```"
        for pointer, part in pointers(whole):
            asked.append((text, len(before), pointer))
            wanted.append(part)
    found = page.evaluate(
        """async asked => {
            const { atPointer } = await import("/assets/places.js");
            return asked.map(([text, from, pointer]) => {
                const { start, end, note } = atPointer(text, from, pointer);
                return [text.slice(start, end), note ?? null];
            });
        }""",
        asked,
    )
    assert len(found) > 150
    assert [(json.loads(part), note) for part, note in found] == [(part, None) for part in wanted]


@pytest.mark.parametrize("scheme", ["light", "dark"], indirect=True)
def test_rollouts_have_no_barrier_and_a_picture(seen: Seen, scheme: str, verdicts: str) -> None:
    page = seen.open(f"#/jobs/{seen.site.finished}/rollouts?step=2&at=2-0-1")
    expect(columns(page)).to_have_count(4)
    assert seen.barriers() == []
    seen.shot(f"rollouts-{scheme}")
    for group in (1, 2, 6):
        column(seen, verdicts, group)
        assert seen.barriers() == []
        seen.shot(f"verdict-{group}-{scheme}")


def test_a_narrow_window_scrolls_only_inside_the_list(seen: Seen) -> None:
    seen.page.set_viewport_size({"width": 390, "height": 844})
    page = seen.open(f"#/jobs/{seen.site.finished}/rollouts?step=2")
    expect(columns(page)).to_have_count(4)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
