"""What the web page takes to draw: a heat map of 8,192 tokens, and a curve of 20,000 points.

A click mounts or recolours, a key moves on; the time is Chromium's own Event Timing, from the
input until the frame that shows its effect was presented (style, layout, paint and compositing
included, in units of 8 ms). Scrolling counts the time from frame to frame while the whole text
passes by, a screen a frame. The peers draw the same text in the same run, in turns: a plain
`<pre>`, and one `<span>` a token with its colour, as heat maps are commonly made. The text is
drawn once with line ends and once as one unbroken line. Prints one table.

    python benchmarks/page.py [--rounds 5] [--tokens 8192] [--points 20000]

Needs Debian's `chromium` and the Python package `playwright`; asks no network.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
from collections import defaultdict
from pathlib import Path

# Beside this file lies verifiers.py, which would hide the package of that name.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from playwright.sync_api import Page, Route, sync_playwright

from services.api.web_page import CONTENT_SECURITY_POLICY, FOLDER

ORIGIN = "http://page.localhost"
TEXTS = ("lines", "one line")
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css"}
STAGE = """<!doctype html><html lang="en"><head><title>Strop</title>
<link rel="stylesheet" href="assets/vendor/uplot-1.6.32/uPlot.css">
<link rel="stylesheet" href="assets/style.css"><link rel="stylesheet" href="assets/rollouts.css">
</head><body><button id="go">Go</button><main id="main"></main></body></html>"""

SET_UP = """
async ([tokens, points]) => {
    const { html, render } = await import("/assets/dom.js");
    const { TokenMap } = await import("/assets/token_map.js");
    const { Chart } = await import("/assets/charts.js");
    let state = 7;
    const random = () => (state = (state * 48271) % 2147483647) / 2147483647;
    const normal = () => random() + random() + random() - 1.5;
    const words = [" the", " answer", " is", " so", "tion", " 12", "\\n", ".\\n\\n", " x", " =", " therefore", ","];
    const stream = (of) => Array.from({ length: tokens }, of);
    const streams = { credit: stream(normal), evidence: stream(normal), entropy: stream(random),
        teacher_logprob: stream(() => -random()), student_logprob: stream(() => -random()) };
    const rollout = (token_texts) => ({ token_texts, text: token_texts.join(""), special_tokens: [],
        evidence: { gold: "12", extracted: "13" }, streams, alternatives: null, teacher_alternatives: null });
    const broken = stream(() => words[Math.floor(random() * words.length)]);
    const texts = {
        lines: rollout(broken),
        "one line": rollout(broken.map((word) => word.replaceAll("\\n", "") || " y")),
    };
    const main = document.getElementById("main");
    const show = (text, query) => render(html`<${TokenMap} rollout=${texts[text]} query=${query} remember=${() => {}} />`, main);
    const wipe = () => { render(null, main); main.textContent = ""; };
    const x = Array.from({ length: points }, (_, at) => at + 1);
    const values = x.map((at) => Math.sin(at / 900) + random() / 5);
    const plain = (text) => {
        const pre = document.createElement("pre");
        pre.className = "heat panel";
        pre.textContent = texts[text].text;
        main.append(pre);
    };
    const spans = (text) => {
        const pre = document.createElement("pre");
        pre.className = "heat panel";
        texts[text].token_texts.forEach((token, at) => {
            const span = document.createElement("span");
            span.textContent = token;
            span.style.background = `rgb(240 ${Math.floor(128 + 80 * streams.evidence[at])} 92)`;
            pre.append(span);
        });
        main.append(pre);
    };
    const recoloured = () => document.querySelectorAll("pre.heat span").forEach((span, at) =>
        (span.style.background = `rgb(240 ${Math.floor(128 + 120 * streams.entropy[at])} 92)`));
    const curve = () => render(html`<${Chart} title="Long" x=${x}
        series=${[{ name: "a", values, colour: "--line-1" }]} />`, main);
    const nothing = () => {};
    const acts = {
        "heat map": [wipe, (text) => show(text, { stream: "evidence" })],
        "heat map, recoloured": [nothing, (text) => show(text, { stream: "entropy" })],
        "heat map, all of it seen, recoloured": [nothing, (text) => show(text, { stream: "credit" })],
        "plain text": [wipe, plain],
        "a span a token": [wipe, spans],
        "a span a token, recoloured": [nothing, recoloured],
        curve: [wipe, curve],
    };
    const button = document.getElementById("go");
    let act = nothing;
    button.addEventListener("click", () => act());
    const seen = [];
    new PerformanceObserver((list) => seen.push(...list.getEntries().filter((one) => ["click", "keydown"].includes(one.name))))
        .observe({ type: "event", durationThreshold: 16 });
    const frame = () => new Promise(requestAnimationFrame);
    const quiet = async () => { for (let frames = 0; frames < 5; frames++) await frame(); };
    window.prepare = async (name, text) => {
        const [before, then] = acts[name];
        before();
        act = () => then(text);
        await quiet();
        seen.length = 0;
    };
    window.focusOne = async () => {
        document.querySelector(".heat .token[tabindex]").focus();
        await quiet();
        seen.length = 0;
    };
    window.took = async () => {
        for (let frames = 0; frames < 30 && !seen.length; frames++) await frame();
        return seen.length ? Math.max(...seen.map((one) => one.duration)) : 8;
    };
    window.scrolled = async () => {
        const gaps = [];
        let last = await frame();
        for (let y = 0; y < document.documentElement.scrollHeight - innerHeight; y += innerHeight) {
            scrollTo(0, y);
            const now = await frame();
            gaps.push(now - last);
            last = now;
        }
        scrollTo(0, 0);
        await quiet();
        return gaps.sort((one, other) => one - other)[Math.floor(gaps.length * 0.95)];
    };
}
"""


def served(route: Route) -> None:
    """A file of the page, under the policy that the API serves it with."""
    path = route.request.url.removeprefix(ORIGIN).split("?")[0]
    policy = {"Content-Security-Policy": CONTENT_SECURITY_POLICY}
    if path == "/":
        route.fulfill(body=STAGE, content_type="text/html", headers=policy)
        return
    file = FOLDER / path.removeprefix("/assets/")
    route.fulfill(body=file.read_bytes(), content_type=TYPES[file.suffix])


def drawn(page: Page, act: str, text: str) -> float:
    """Milliseconds from a click until the frame that it led to was presented."""
    page.evaluate("([act, text]) => window.prepare(act, text)", [act, text])
    page.locator("#go").click()
    return page.evaluate("() => window.took()")


def keyed(page: Page) -> float:
    """The same from an arrow key to the next token."""
    page.evaluate("() => window.focusOne()")
    page.keyboard.press("ArrowRight")
    return page.evaluate("() => window.took()")


def scrolled(page: Page) -> float:
    """Milliseconds from frame to frame, the 95th percentile while all of it passes by."""
    return page.evaluate("() => window.scrolled()")


def one_round(page: Page, text: str) -> dict[str, float]:
    """Every contestant once, in turns."""
    return {
        "plain text": drawn(page, "plain text", text),
        "plain text, scrolled": scrolled(page),
        "a span a token": drawn(page, "a span a token", text),
        "a span a token, scrolled": scrolled(page),
        "a span a token, recoloured": drawn(page, "a span a token, recoloured", text),
        "heat map": drawn(page, "heat map", text),
        "heat map, recoloured": drawn(page, "heat map, recoloured", text),
        "heat map, next token by key": keyed(page),
        "heat map, scrolled": scrolled(page),
        "heat map, all of it seen, recoloured": drawn(
            page, "heat map, all of it seen, recoloured", text
        ),
    }


def main() -> None:
    """Let everything take turns, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--points", type=int, default=20_000)
    arguments = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("no Chromium: apt-get install chromium")
    found: defaultdict[str, defaultdict[str, list[float]]]
    found = defaultdict(lambda: defaultdict(list))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.route("**/*", served)
        page.goto(ORIGIN)
        page.evaluate(SET_UP, [arguments.tokens, arguments.points])
        for _ in range(arguments.rounds):
            for text in TEXTS:
                for name, took in one_round(page, text).items():
                    found[name][text].append(took)
            found["curve"][""].append(drawn(page, "curve", ""))
        print(
            f"Chromium {browser.version}, {arguments.rounds} rounds, "
            f"a load of {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; median (worst), ms\n"
        )
        browser.close()
    print("| | lines | one line |\n|---|---|---|")
    for name, texts in found.items():
        cells = [f"{statistics.median(took):.0f} ({max(took):.0f})" for took in texts.values()]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
