"""The names of trained models: both ways, in safe characters."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.model_names import Trained, model_name, trained

JOB = "ftjob-0123456789abcdef01234567"


@given(base=st.text(), name=st.text(), step=st.none() | st.integers(0, 10**11))
def test_a_name_leads_back_to_its_job_and_step_whatever_base_and_job_are_called(
    base: str, name: str, step: int | None
) -> None:
    made = model_name(base, name, JOB, step)
    assert trained(made) == Trained(JOB, step)
    assert quote(made, safe=":") == made
    assert re.fullmatch(r"[A-Za-z0-9.:_-]+", made)


def test_names_have_openais_form() -> None:
    number = JOB.removeprefix("ftjob-")
    assert model_name("/models/Qwen3-VL-8B/", "sums", JOB) == f"ft:Qwen3-VL-8B:sums:{number}"
    assert model_name("org/m", "a b", JOB, 88) == f"ft:m:a-b:{number}:ckpt-step-88"


@pytest.mark.parametrize(
    "name",
    [
        "", "ft:", "org/name", "smollm2-135m-instruct", "ft:a:b", "ft:a:b:../x", "ft:a:b:c:d",
        "ft:a:b:c:ckpt-step-", "ft:a:b:c:ckpt-step--1", "ft:a:b:c:ckpt-step-01", "ft:a:b:c\n",
        "ft:a:b:c:ckpt-step-٣",
    ],
)  # fmt: skip
def test_other_names_stand_for_no_trained_model(name: str) -> None:
    assert trained(name) is None
