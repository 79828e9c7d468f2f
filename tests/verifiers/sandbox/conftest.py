"""One sandbox of each profile for all the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import pytest

from verifiers.sandbox import namespaces
from verifiers.sandbox.policy import Profile
from verifiers.sandbox.supervisor import Sandbox


@pytest.fixture(scope="session", params=get_args(Profile))
def profile(request: pytest.FixtureRequest) -> Profile:
    if request.param == "namespaces" and not namespaces.available():
        pytest.skip("this user makes no namespaces here")
    return request.param


@pytest.fixture(scope="session")
def sandbox(profile: Profile) -> Iterator[Sandbox]:
    with Sandbox(profile=profile) as sandbox:
        yield sandbox
