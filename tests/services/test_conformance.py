"""Every operation of the OpenAPI document, with what it asks for and with what it does not.

Schemathesis makes the requests; whatever is sent, the service answers as the document says:
a documented status, the documented body and headers, and never with an error of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import negative_data_rejection

from tests.services.running import Api

REFUSALS = ["400", "401", "403", "404", "405", "408", "409", "412", "413", "415", "422", "429"]
CONFIG = schemathesis.Config.from_dict(
    {
        "seed": 1,
        "checks": {
            "negative_data_rejection": {"expected-statuses": REFUSALS},
            # What fits its schema may still name a model, a file or a job that is not there.
            "positive_data_acceptance": {"enabled": False},
        },
    }
)
DOCUMENT = json.loads(Path(__file__).with_name("openapi.json").read_text())
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT, config=CONFIG)

# Nothing serves models here, which these say with a 503 to all but what is plainly wrong: a
# boolean passes for a number with them. All else about their answers is still checked.
SERVED = ("/v1/chat/completions", "/v1/completions")


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


# The bulk are schemathesis's own cases, one for each thing that can be wrong; a few are random.
@SCHEMA.parametrize()
@settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
        HealthCheck.data_too_large,
        HealthCheck.large_base_example,
        HealthCheck.function_scoped_fixture,
    ],
)
def test_every_answer_is_one_that_the_document_allows(
    case: schemathesis.Case, api: Api, session: requests.Session
) -> None:
    response = case.call(
        base_url=api.url,
        session=session,
        headers={"Authorization": f"Bearer {api.key}"},
        timeout=60,
    )
    served = case.path in SERVED
    excluded = [not_a_server_error, negative_data_rejection] if served else []
    try:
        case.validate_response(response, excluded_checks=excluded)
    except FailureGroup as failures:
        told = "\n".join(f"{found.title}: {found.message}" for found in failures.exceptions)
        request = f"{case.method} {response.request.url} {str(response.request.body)[:1500]}"
        pytest.fail(f"{request}\n{response.status_code} {response.text[:1000]}\n{told}"[:5000])
    assert response.status_code < 500 or (served and response.status_code == 503)
    assert response.headers["x-request-id"]
    assert "Traceback" not in response.text
