"""Hostile text: whatever a model, a task, a grader or an address says, the page shows it as text.

Struck is a page in which something of theirs ran (a global, a dialog), became an element, was
stopped by the content security policy only, asked for a foreign address, or moved what is ours.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Dialog, Page, expect

from services.jobs import Job, JobError
from services.store import Store
from tests.page import traced, written
from tests.page.answering import BASE, Piece, answering
from tests.page.seen import Seen
from tests.page.served import Site
from tests.page.traced import END, Asked, Told
from verifiers.verdict import Verdict

STRIKES = [
    "<script>window.struck=1</script>",
    "<img src=x onerror=window.struck=2>",
    "<svg/onload=window.struck=3><animate onbegin=window.struck=3 attributeName=x dur=1s>",
    "<iframe srcdoc='<script>parent.struck=4</script>'></iframe>",
    "<a href=javascript:window.struck=5>click</a> javascript:window.struck=5",
    "<style>*{display:none!important}.bar{position:fixed;top:500px}</style>",
    "</style><link rel=stylesheet href=https://evil.example/x.css>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<base href=https://evil.example/><form action=https://evil.example/><input name=key>",
    '" onmouseover="window.struck=6" style="position:fixed;inset:0;z-index:99" x="',
    "' autofocus onfocus='window.struck=7",
    "${window.struck=8} `${window.struck=8}` {{constructor.constructor('window.struck=8')()}}",
    "</script></textarea></title></pre><img src=https://evil.example/p.png>",
    "<math><mtext><table><mglyph><style><img src=x onerror=window.struck=9>",
    "\\u003cimg src=x onerror=window.struck=10\\u003e &lt;script&gt; %3Cscript%3E",
    "data:text/html,<script>window.struck=11</script>",
    "<img src='https://evil.example/beacon.png'><video src=https://evil.example/v.mp4 autoplay>",
]
REORDER = "user\u202e\u2066 nimda \u2069\u202c tail"
INVISIBLE = "pay\u200bload\u2060\ufeff\u00ad\u200d\u034f \U000e0041\U000e0042 end"
CONTROL = "a\x00b\x1b[31mred\x07\x7f\x85\r\nnext\u2028line"
RTL = "مرحبا بالعالم שלום עולם 123 <b>x</b>"
MARKS = "Z" + "\u0334\u0335\u0336" * 400 + "algo"
TEXTS = [*STRIKES, REORDER, INVISIBLE, CONTROL, RTL, MARKS]
ALL = "\n".join(TEXTS)
VNODE = {"type": "img", "props": {"src": "x", "onerror": "window.struck=12"}, "constructor": None,
         "__v": 1, "dangerouslySetInnerHTML": {"__html": STRIKES[1]}}  # fmt: skip
EVIDENCE: dict[str, Any] = {
    "__proto__": {"struck": STRIKES[0], "isAdmin": True},
    "constructor": {"prototype": {"struck": STRIKES[1]}},
    "toString": STRIKES[1],
    "reason": ALL,
    STRIKES[1]: STRIKES[0],
    "vnode": VNODE,
    "list": [VNODE, TEXTS, None],
    "lone": "\ud800 half",
}
SHAPES: list[dict[str, Any]] = [
    EVIDENCE,
    {"gold": ALL, "extracted": STRIKES[1], "found": STRIKES[1], "method": STRIKES[1]},
    {"gold": VNODE, "extracted": VNODE, "reason": VNODE, "database": VNODE, "limit": VNODE},
    {"row": VNODE, "wanted": f"('{STRIKES[1]}', 1)", "found": "(" * 400, "reason": STRIKES[0]},
    {"pointer": "/__proto__/" + STRIKES[1], "extracted": '{"__proto__": {}}', "keyword": ALL},
    {"passed": STRIKES[1], "tests": VNODE, "failed": STRIKES[1], "test": ALL, "output": ALL},
    {"parts": [{"part": ALL, "score": VNODE, "status": STRIKES[1]}], "first_failure": EVIDENCE},
    {"parts": STRIKES[1], "first_failure": STRIKES[0], "chosen": ALL, "tainted": VNODE},
    {"grader": "javascript:window.struck=13", "evidence": json.dumps(EVIDENCE)},
]
WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", event => violations.push(
    `${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""
FOREIGN = """
() => [...document.querySelectorAll(
    "#app script, #app style, #app link, #app iframe, #app object, #app embed, #app base, #app meta,"
    + "#app math, #app video, #app form[action], #app animate")]
    .concat([...document.querySelectorAll("#app *")].filter(element =>
        [...element.attributes].some(({ name, value }) =>
            name.startsWith("on") || /^\\s*(javascript|data:text)/i.test(value) && name !== "value"
            || /evil\\.example/.test(value) && !["value", "title", "aria-label", "data-name"].includes(name)
               && !value.startsWith("#"))))
    .map(element => element.outerHTML.slice(0, 200))
"""


@pytest.fixture
def watched(seen: Seen) -> Iterator[Seen]:
    """A page of which every strike is heard; at its end none may have hit."""
    dialogs: list[str] = []
    seen.page.add_init_script(WATCH)

    def dismissed(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    seen.page.on("dialog", dismissed)
    popups: list[Page] = []
    seen.page.on("popup", lambda popup: popups.append(popup))
    yield seen
    assert dialogs == []
    assert popups == []


def unharmed(seen: Seen) -> None:
    """Nothing struck, and what is ours stands where it stood."""
    page = seen.page
    assert page.evaluate("[window.struck, Object.prototype.struck, ({}).isAdmin]") == [None] * 3
    assert page.evaluate("window.violations") == []
    assert page.evaluate(FOREIGN) == []
    assert page.url.startswith(seen.site.url)
    page.evaluate("scrollTo(0, 0)")
    brand = page.locator(".bar .brand")
    expect(brand).to_be_visible()
    on_top = brand.evaluate(
        """brand => {
            const { left, top, width, height } = brand.getBoundingClientRect();
            return top < 40 && brand.contains(document.elementFromPoint(left + width / 2, top + height / 2));
        }"""
    )
    assert on_top
    wide = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1], wide
    seen.check()


def cut(text: str) -> list[str | bytes]:
    """Tokens that split tags, attributes and characters."""
    raw = text.encode("utf-8", errors="surrogatepass").replace(b"\xed\xa0\x80", b"")
    return [raw[start : start + 3] for start in range(0, len(raw), 3)]


@pytest.fixture(scope="session")
def hostile(site: Site) -> str:
    """A running job that says nothing in good faith."""

    async def make(store: Store) -> str:
        asked = written.spec(site.home)
        # The API refuses such a name; another release may have let it in.
        asked["name"] = STRIKES[1] + REORDER
        asked["model"]["path"] = STRIKES[0] + STRIKES[1]
        running = await written.Running.start(
            store, site.home, asked, metadata={"note": STRIKES[1], "<b>x": ALL[:400]}
        )
        job: Job = running.job
        for text in TEXTS:
            await running.tell(text, {"kind": "note", "text": text, "__proto__": {"struck": 1}})
        await running.tell(ALL, {"kind": "error", "problem": EVIDENCE["vnode"]}, level="error")
        await running.step(rewards={STRIKES[1]: 0.5, "__proto__": 0.25})
        await running.save()
        return job.id

    job = site.ask(make)
    turn = ALL + "\n" + "w" * 100_000
    groups = [
        Asked(
            [Told([*cut(ALL), END], Verdict(0.0, "wrong", shape)) for shape in SHAPES],
            id=STRIKES[1],
            question=ALL,
            verifier={"kind": STRIKES[1], "url": "javascript:window.struck=14", **EVIDENCE},
            turn=turn,
        ),
        Asked(
            [
                Told(
                    [*(["word<b>"] * 9), *(["x" * 25_000] * 40), STRIKES[1], END],
                    Verdict(
                        0.0, "wrong", {"reason": "y" * 1_000_000, "extracted": "x", "gold": "z"}
                    ),
                ),
                Told(
                    [*(["a\u202e"] * 4_000), "\x00" * 200_000, "\n" * 300, END],
                    Verdict(0.0, "wrong", {"deep": deep(200)}),
                ),
            ],
            id="long",
        ),
    ]
    traced.write(site.home / "jobs" / job / "traces", 2, groups)
    return job


@pytest.fixture(scope="session")
def failed(site: Site) -> str:
    """A job that failed, and says why in the same spirit."""

    async def make(store: Store) -> str:
        asked = written.spec(site.home)
        asked["name"] = STRIKES[1] + REORDER
        running = await written.Running.start(store, site.home, asked)
        await running.step(rewards={STRIKES[2]: 0.5}, traced=False)
        error = JobError(code="fault", message=ALL, param=None)
        await store.transition(running.job.id, "failed", token=running.job.token, error=error)
        return running.job.id

    job = site.ask(make)
    told = [Told([*cut(text), END], Verdict(0.0, "wrong", EVIDENCE)) for text in TEXTS[:3]]
    traced.write(site.home / "jobs" / job / "traces", 1, [Asked(told, id=STRIKES[1])])
    return job


def deep(levels: int) -> Any:
    value: Any = STRIKES[1]
    for _ in range(levels):
        value = {"d": value}
    return value


def test_hostile_completions_are_text_in_the_list_and_side_by_side(
    watched: Seen, hostile: str
) -> None:
    page = watched.open(f"#/jobs/{hostile}/rollouts?step=2&at=2-0-0")
    expect(page.locator("[data-sibling]")).to_have_count(len(SHAPES))
    page.get_by_text("Prompt", exact=True).click()
    expect(page.locator(".message").first).to_contain_text(STRIKES[0])
    for text in STRIKES:
        expect(page.locator(".completion").first).to_contain_text(text.replace("\n", " "))
    expect(page.locator(".evidence").first).to_contain_text("__proto__")
    unharmed(watched)
    page.evaluate("document.querySelector('.columns').scrollIntoView()")
    watched.shot("hostile-rollouts")


@pytest.mark.parametrize("rollout", range(len(SHAPES)))
def test_hostile_evidence_of_any_shape_is_text(watched: Seen, hostile: str, rollout: int) -> None:
    page = watched.open(f"#/jobs/{hostile}/rollouts/2-0-{rollout}")
    expect(page.locator(".heat .token").first).to_be_visible()
    for summary in page.locator("details > summary").all():
        summary.click()
    page.locator(".heat .token").nth(3).hover()
    page.locator(".heat .token").nth(4).click()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".details h2")).to_contain_text("Token 6")
    unharmed(watched)
    if rollout == 0:
        watched.shot("hostile-tokens")


def test_characters_that_hide_or_reorder_are_named_and_contained(
    watched: Seen, hostile: str
) -> None:
    page = watched.open(f"#/jobs/{hostile}/rollouts/2-0-0")
    chips = page.locator(".heat .odd")
    expect(chips).not_to_have_count(0)
    names = set(" ".join(chips.evaluate_all("all => all.map(one => one.dataset.name)")).split())
    assert {"RLO", "ZWSP", "NUL", "ESC", "CR", "LSEP", "SHY", "U+E0041", "LRI"} <= names
    text = page.evaluate("document.querySelector('.heat').textContent")
    assert text == ALL + END
    after = page.evaluate(
        """() => {
            const walker = document.createTreeWalker(document.querySelector(".heat"), NodeFilter.SHOW_TEXT);
            const places = [];
            while (walker.nextNode()) {
                const node = walker.currentNode;
                if (node.parentElement.closest(".odd")) continue;
                for (let at = 0; at < node.length; at++) {
                    const range = new Range();
                    range.setStart(node, at);
                    range.setEnd(node, at + 1);
                    const box = range.getBoundingClientRect();
                    places.push([node.data[at], box.left, box.top]);
                }
            }
            return places;
        }"""
    )
    shown = "".join(character for character, _, _ in after)
    start = shown.index("user nimda  tail")
    lefts = [(left, top) for _, left, top in after[start : start + len("user nimda")]]
    assert len({top for _, top in lefts}) == 1
    assert lefts == sorted(lefts), "an override turned the text around"


@pytest.mark.parametrize("rollout", ["2-1-0", "2-1-1"], ids=["a line of 1 MB", "NUL and RLO"])
def test_long_and_invisible_texts_do_not_break_the_layout_or_hang_the_page(
    watched: Seen, hostile: str, rollout: str
) -> None:
    page = watched.page
    page.set_default_timeout(30_000)
    start = time.monotonic()
    watched.open(f"#/jobs/{hostile}/rollouts/{rollout}")
    expect(page.locator(".heat .token").first).to_be_visible(timeout=30_000)
    unharmed(watched)
    print(f"\n{rollout}: shown in {time.monotonic() - start:.1f} s")
    page.goto(f"{watched.site.url}/#/jobs/{hostile}/rollouts?step=2&at={rollout}")
    expect(page.locator("[data-sibling]")).to_have_count(2, timeout=30_000)
    unharmed(watched)
    if rollout == "2-1-0":
        more = page.locator("[data-sibling] .completion").first.get_by_role("button")
        expect(more).to_contain_text("more characters")


NAME = STRIKES[1]


@pytest.mark.parametrize(
    ("view", "told"),
    [
        ("#/jobs", NAME),
        ("#/jobs?status=failed", NAME),
        ("#/jobs/{job}", NAME),
        ("#/jobs/{job}?tab=events&all=1", STRIKES[0]),
        ("#/jobs/{job}?tab=events&level=error&text=%3Cscript", STRIKES[2]),
        ("#/jobs/{job}?tab=config", STRIKES[0]),
        ("#/jobs/{job}?tab=checkpoints", "ft:"),
        ("#/jobs/{job}?tab=log", STRIKES[7]),
        ("#/jobs/{failed}", STRIKES[9]),
        ("#/jobs/{failed}/rollouts", NAME),
        ("#/compare?ids={job},{failed}", NAME),
        ("#/compare?ids={job},{failed}&tab=config", "model.path"),
        ("#/compare?ids={job},{failed}&tab=rollouts", STRIKES[4]),
        ("#/chat", "smollm2-135m-instruct"),
        ("#/jobs/new?from={job}", "New job"),
    ],
)
def test_hostile_names_metadata_and_events_are_text_in_every_view(
    watched: Seen, hostile: str, failed: str, view: str, told: str
) -> None:
    page = watched.open(view.format(job=hostile, failed=failed))
    main = page.locator("main")
    expect(main.locator("h1").first).to_be_visible()
    expect(main).to_contain_text(told.replace("\n", " "))
    main.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
    page.wait_for_timeout(300)
    unharmed(watched)
    watched.shot("hostile-" + re.sub(r"\W+", "-", view.partition("?")[0] + view[-8:]).strip("-"))


def test_a_hostile_spec_is_text_in_the_form_and_in_the_report_of_its_faults(
    watched: Seen, hostile: str
) -> None:
    watched.allowed = ["400", "422"]
    page = watched.open(f"#/jobs/new?from={hostile}")
    expect(page.get_by_label("Model", exact=True)).to_have_value(STRIKES[0] + STRIKES[1])
    page.get_by_role("button", name="Queue the job").click()
    expect(page.get_by_role("alert").first).to_be_visible()
    unharmed(watched)
    page.get_by_role("button", name="Edit as JSON").click()
    page.get_by_label("Job spec").fill(json.dumps({STRIKES[1]: ALL, "model": {NAME: VNODE}}))
    page.get_by_role("button", name="Queue the job").click()
    expect(page.get_by_role("alert").first).to_contain_text(STRIKES[1])
    unharmed(watched)


def test_hostile_answers_and_faults_of_a_model_are_text_in_the_chat(
    watched: Seen, hostile: str
) -> None:
    def say(asked: dict[str, Any]) -> Iterator[Piece]:
        yield from (ALL[start : start + 3] for start in range(0, len(ALL), 3))
        if asked["model"] == BASE:
            yield {"error": {"message": ALL, "type": STRIKES[1], "code": 500}}

    with answering(watched.site) as models:
        models.said = say
        page = watched.open(f"#/chat?model={models.trained}")
        prompt = page.get_by_label("Prompt for both")
        prompt.fill(ALL.replace("\x00", ""))
        page.get_by_role("button", name="Send to both").click()
        trained = page.get_by_role("region", name="Trained")
        expect(trained.get_by_text("answered in")).to_be_visible()
        base = page.get_by_role("region", name="Base")
        expect(base.get_by_role("alert")).to_contain_text(STRIKES[0])
        for pane in (trained, base):
            said = pane.locator(".turn-assistant .said")
            assert said.evaluate("one => one.textContent") == ALL
            assert pane.locator(".turn-user .said .odd").count() > 3
        unharmed(watched)
        watched.shot("hostile-chat")


@pytest.mark.parametrize(
    "address",
    [
        "#/jobs/{x}",
        "#/jobs/{x}/rollouts",
        "#/jobs/{x}/rollouts/{x}",
        "#/jobs/{job}/rollouts/{x}",
        "#/jobs/{job}/rollouts?text={x}&verifier={x}&status={x}&step={x}&at={x}&order={x}",
        "#/jobs/{job}/rollouts?__proto__={x}&constructor={x}&text=x",
        "#/jobs/{job}/rollouts/2-0-0?stream=__proto__&token={x}",
        "#/jobs/{job}/rollouts/2-0-0?stream=constructor&token=99999999999999999999",
        "#/compare?ids={x},{x}",
        "#/chat?model={x}",
        "#/{x}",
        "#javascript:window.struck=15",
        "#{x}",
    ],
)
def test_hostile_addresses_are_words(watched: Seen, hostile: str, address: str) -> None:
    watched.allowed = ["404", "422", "400", "503"]  # the service says no
    page = watched.page
    for text in (STRIKES[1], STRIKES[9], "javascript:window.struck=16"):
        asked = address.replace("{job}", hostile).replace("{x}", quote(text, safe=""))
        watched.open(asked)
        expect(page.locator("main").first).not_to_be_empty()
        page.wait_for_timeout(150)
        unharmed(watched)
