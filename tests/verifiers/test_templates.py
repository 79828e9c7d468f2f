"""Templates name values and do nothing else."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifiers import templates
from verifiers.templates import SampleError, TemplateError

ITEM: dict[str, Any] = {
    "answer": "12",
    "rows": [{"a b": 1}, [True, None]],
    "trap": "{{ sample.output_text }}",
    "n": 2.5,
}


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("{{item.answer}} and {{ sample.output_text }}", "12 and said"),
        ("{{ item.rows[0]['a b'] }}", "1"),
        ('{{ item.rows[0]["a b"] }}', "1"),
        ("{{item.rows[1]}}", "[true, null]"),
        ("{{item.n}}", "2.5"),
        ("{{item.trap}}", "{{ sample.output_text }}"),
        ("{{ item }}", '{"answer": "12"'),
        (r"\frac{{1}}{{2}} {{other.x}} {{}} {{ item", r"\frac{{1}}{{2}} {{other.x}} {{}} {{ item"),
    ],
)
def test_a_template_inserts_what_it_names(text: str, rendered: str):
    templates.check(text, ITEM)
    found = templates.render(text, ITEM, templates.sample_of("said"))
    assert found.startswith(rendered)
    assert found == rendered or text == "{{ item }}"


def test_a_sample_that_is_json_can_be_looked_into():
    sample = templates.sample_of('{"rows": [{"x": "7"}]}')
    assert templates.render("{{sample.output_json.rows[0].x}}", {}, sample) == "7"
    with pytest.raises(SampleError, match=r"nothing at \{\{sample.output_json.y\}\}"):
        templates.render("{{sample.output_json.y}}", {}, sample)
    for text in ("12 and more", '{"a": 1, "a": 2}', "[" * 60 + "]" * 60, "[1] " * 2**19):
        assert "output_json" not in templates.sample_of(text)


@pytest.mark.parametrize(
    "text",
    [
        "{{item.missing}}", "{{item.rows[7]}}", "{{item.rows.answer}}", "{{item.answer[0]}}",
        "{{item.rows[1][1]}}", "{{item.answer.__class__}}", "{{item.rows[-1]}}",
        "{{item.n()}}", "{{item.a + 1}}", "{{sample.choices}}", "{{sample}}",
    ],
)  # fmt: skip
def test_what_is_not_there_or_is_no_template_is_refused_before_any_completion(text: str):
    with pytest.raises(TemplateError):
        templates.check(text, ITEM)


def test_a_text_that_is_one_template_can_be_a_value():
    assert templates.value_of("{{ item.rows }}", ITEM) == ITEM["rows"]
    assert templates.value_of("the {{ item.n }}", ITEM) == "the 2.5"


@given(st.text(), st.text())
def test_what_is_inserted_is_never_read_again(answer: str, said: str):
    sample = templates.sample_of(said)
    assert templates.render("{{item.answer}}", {"answer": answer}, sample) == answer
    assert templates.render("{{sample.output_text}}", {}, sample) == said
