"""One sandbox for all the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from verifiers.sandbox.supervisor import Sandbox


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox
