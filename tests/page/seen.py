"""What a test sees of the page: a tab that is signed in, its pictures, its barriers, its errors."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page

from tests.page.served import Site

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
SERIOUS = ("serious", "critical")


class Seen:
    """A page, and everything about it that no test may see: errors, foreign requests."""

    def __init__(self, site: Site, context: BrowserContext) -> None:
        self.site = site
        self.page: Page = context.new_page()
        self.page.set_default_timeout(60_000)
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.allowed: list[str] = []
        """Patterns of what the console may say in this test."""
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        context.on("request", lambda request: self._asked(request.url))

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _asked(self, url: str) -> None:
        if not url.startswith((self.site.url, "data:", "blob:")):
            self.foreign.append(url)

    def open(self, address: str = "#/jobs", *, key: str | None = None) -> Page:
        """Go to an address as somebody who is signed in."""
        token = json.dumps(key or self.site.key)
        self.page.add_init_script(f"sessionStorage.setItem('strop-key', {token})")
        self.page.goto(f"{self.site.url}/{address}")
        return self.page

    def shot(self, name: str) -> Path:
        """Keep a picture for people to look at."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        self.page.evaluate("scrollTo(0, 0)")
        self.page.screenshot(path=path, full_page=True)
        return path

    def barriers(self) -> list[str]:
        """What axe-core finds that is serious, each with where it is."""
        # The page lets no text become a script, so axe comes in through the debugger.
        found = Axe().run(self.page).response["violations"]
        return [
            f"{one['id']}: {node['target']} {node['failureSummary']}"
            for one in found
            if one["impact"] in SERIOUS
            for node in one["nodes"]
        ]

    def check(self) -> None:
        """Raise AssertionError when anything was seen that should not be."""
        allowed = [re.compile(pattern) for pattern in self.allowed]
        errors = [text for text in self.errors if not any(p.search(text) for p in allowed)]
        assert not errors, errors
        assert not self.foreign, self.foreign
