"""The environment: what it may hold, and how what it must not is told."""

from __future__ import annotations

import pytest

from services.errors import BadSettings
from services.settings import load_settings


def test_every_bad_variable_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROP_PORT", "many")
    monkeypatch.setenv("STROP_MAX_RUNNING_JOBS", "0")
    with pytest.raises(BadSettings, match=r"STROP_PORT is 'many'.*STROP_MAX_RUNNING_JOBS is '0'"):
        load_settings()


def test_passwords_do_not_show_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROP_REDIS_URL", "redis://:hunter2@localhost")
    monkeypatch.setenv("STROP_API_KEY", "strop_a_hunter2")
    settings = load_settings()
    assert "hunter2" not in f"{settings!r} {settings}"
    assert settings.store_url == "redis://:hunter2@localhost"
