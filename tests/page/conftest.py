"""One Chromium, one service and one signed-in page for each test of the web page.

The browser is Debian's (`apt-get install chromium`): Playwright downloads none. Where there
is none the tests are skipped, and say so.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.page.seen import Seen
from tests.page.served import Site, serving

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",  # as root in a container there is none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
expect.set_options(timeout=60_000)  # a busy machine takes its time; a quiet one never needs it
WIDE = {"width": 1280, "height": 800}
NARROW = {"width": 390, "height": 844}


@pytest.fixture(scope="module")  # Playwright holds an event loop: other tests have their own
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The service with its jobs; tests may add jobs, and change none but their own."""
    with serving(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(params=["light"])
def scheme(request: pytest.FixtureRequest) -> str:
    """The colours the system asks for; a test may ask for both by `indirect`."""
    return request.param


@pytest.fixture
def seen(browser: Browser, site: Site, scheme: str) -> Iterator[Seen]:
    """A fresh context at desk width. At its end nothing may have been said on the console."""
    context = browser.new_context(
        viewport=WIDE,  # pyright: ignore[reportArgumentType]
        color_scheme=scheme,  # pyright: ignore[reportArgumentType]
        reduced_motion="reduce",
    )
    seen = Seen(site, context)
    yield seen
    context.close()
    seen.check()
