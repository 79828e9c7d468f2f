"""The documentation builds, and speaks of what there is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.generate import ELSEWHERE, pages
from services.api.app import create_app
from services.cli import commands, jobs, keys, probe, results, verify
from services.settings import Settings

ROOT = Path(__file__).parents[2]
TEXTS = {path: path.read_text() for path in (ROOT / "docs").rglob("*.md")} | {
    ROOT / "README.md": (ROOT / "README.md").read_text()
}


@pytest.mark.parametrize(("path", "text"), pages(), ids=lambda value: getattr(value, "name", ""))
def test_a_reference_page_says_what_the_code_says(path: Path, text: str) -> None:
    assert path.read_text() == text, "run: python docs/generate.py"


def test_the_site_builds_without_a_warning_and_has_every_route(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "reference" / "rest" / "index.html").read_text()
    routes = create_app(Settings()).openapi()["paths"]
    assert len(routes) > 10
    assert not [route for route in routes if f" {route}</code>" not in page]
    assert not [line for line in done.stderr.splitlines() if line.startswith("WARNING")]


def test_every_variable_that_is_named_anywhere_is_in_the_table() -> None:
    known = {f"STROP_{name.upper()}" for name in Settings.model_fields}
    families = tuple(name.partition("<")[0] for name in ELSEWHERE)
    code = [
        path.read_text()
        for folder in ("services", "trainer", "verifiers")
        for path in (ROOT / folder).rglob("*.py")
    ]
    named = {
        name
        for text in (*code, *TEXTS.values())
        for name in re.findall(r"STROP_[A-Z_]*[A-Z](?![A-Z_])", text)
    }
    ours = {  # of docker-compose.yml, and of processes that speak to their own
        *("STROP_GRAFANA_PASSWORD", "STROP_METRICS_KEY", "STROP_RAY_TOKEN", "STROP_REDIS_PASSWORD"),
        "STROP_FAMILY",
        *("STROP_CHAOS_SEED", "STROP_CHAOS_FAULTS"),  # of `make chaos`
    }
    assert not {name for name in named - known - ours if not name.startswith(families)}


def test_every_command_that_is_shown_exists() -> None:
    assert {m.app for m in (jobs, keys, probe, results, verify)} == {
        commands.app
    }  # each adds its own
    names = {
        command.name or command.callback.__name__
        for command in commands.app.registered_commands
        if command.callback is not None
    } | {group.name for group in commands.app.registered_groups}
    shown = {
        (path.name, command)
        for path, text in TEXTS.items()
        for command in re.findall(r"^ {4}strop ([a-z]+)|`strop ([a-z]+)", text, re.M)
        for command in command
        if command
    }
    assert len(shown) > 20
    assert not {(name, command) for name, command in shown if command not in names}


def test_every_file_that_is_named_exists() -> None:
    named = {
        (path.name, name)
        for path, text in TEXTS.items()
        for name in re.findall(
            r"`((?:services|trainer|verifiers|deploy|examples|benchmarks)/[\w./-]+)`", text
        )
    }
    assert len(named) > 10
    assert not {(page, name) for page, name in named if not (ROOT / name).exists()}
