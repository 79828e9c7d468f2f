"""The schema judge: strict JSON, every draft, no request, expected values."""

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifiers import strict_json
from verifiers.compiled_schema import SchemaError, compile_schema
from verifiers.judge import judge
from verifiers.spec import SpecError, parse_spec

SUITE = Path(__file__).parents[3] / "shared" / "data" / "jsonschema" / "tests"
DRAFTS = {
    "draft4": "http://json-schema.org/draft-04/schema#",
    "draft6": "http://json-schema.org/draft-06/schema#",
    "draft7": "http://json-schema.org/draft-07/schema#",
    "draft2019-09": "https://json-schema.org/draft/2019-09/schema",
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def verdict(completion: str, **spec: Any):
    return judge(parse_spec({"kind": "schema", "schema": PERSON, **spec}), completion)


def test_json_that_fits_is_correct_plain_or_fenced():
    assert verdict('{"name": "Ada", "age": 36}').status == "correct"
    assert verdict('Here:\n```json\n{"name": "Ada", "age": 36}\n```\nDone.').status == "correct"


def test_a_violation_is_wrong_and_points_to_its_place():
    found = verdict('{"name": "Ada", "age": "36"}')
    assert (found.status, found.score) == ("wrong", 0.0)
    assert (found.evidence["pointer"], found.evidence["keyword"]) == ("/age", "type")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"name": "Ada", "age": 36, "age": 36}', "stands twice"),
        ('{"name": "Ada", "age": NaN}', "NaN"),
        ('{"name": "Ada", "age": -Infinity}', "-Infinity"),
        ('{"name": "Ada", "age": 1e400}', "beyond a double"),
        ('{"name": "Ada", "age": ' + "9" * 400 + "}", "400 digits"),
        ('{"name": "Ada", "age": 1e-400}', "too small for a double"),
        ('\u00a0{"name": "Ada", "age": 36}', "not JSON"),
        ('```json\n\u2003{"name": "Ada", "age": 36}\n```', "not JSON"),
        ('{"name": "Ada", "age": 36}\x0c', "not JSON"),
        ('\ufeff{"name": "Ada", "age": 36}', "not JSON"),
        ('{"name": "\\ud800", "age": 36}', "surrogate U+D800"),
        ('{"name": "\ud800", "age": 36}', "surrogate U+D800"),
        ("[" * 200 + "]" * 200, "deep"),
        ("[" * 100_000, "deep"),
        ('{"name": "Ada", "age": 36', "not JSON"),
        ("{'name': 'Ada', 'age': 36}", "not JSON"),
        ('{"name": "Ada", "age": 36,}', "not JSON"),
        ('{"name": "Ada", "age": 036}', "not JSON"),
        ('{"name": "A\nda", "age": 36}', "not JSON"),
        ('{"name": "Ada", "age": 36} // done', "not JSON"),
        ('The person is {"name": "Ada", "age": 36}', "not JSON"),
        ("", "empty"),
    ],
)
def test_what_is_no_strict_json_is_malformed(text: str, reason: str):
    found = verdict(text)
    assert found.status == "malformed"
    assert reason in str(found.evidence["reason"])


def test_expected_must_be_equal_not_merely_fitting():
    expected = {"name": "Ada", "age": 36}
    assert verdict('{"age": 36.0, "name": "Ada"}', expected=expected).status == "correct"
    found = verdict('{"name": "Ada", "age": 37}', expected=expected)
    assert (found.status, found.evidence["pointer"]) == ("wrong", "/age")


@pytest.mark.parametrize(
    ("wanted", "found", "place"),
    [
        (1, True, ""), (0, False, ""), (1, 1.0, None), ("1", 1, ""), (None, 0, ""),
        ([1, 2], [2, 1], "/0"), ([1], [1, 2], "/1"), ({"a": 1}, {"a": 1, "b/c": 2}, "/b~1c"),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, "/a/0/b"), ({}, [], ""),
    ],
)  # fmt: skip
def test_json_equality_knows_types(wanted: Any, found: Any, place: str | None):
    assert strict_json.difference(wanted, found) == place


def test_two_tags_with_different_json_are_a_hedge():
    tagged = {"extract": {"kind": "tag"}}
    one = '<answer>{"name": "Ada", "age": 36}</answer>'
    assert verdict(one + one.replace(" ", "  "), **tagged).status == "correct"
    assert verdict(one + one.replace("36", "37"), **tagged).status == "malformed"


def test_blanks_within_a_tag_are_the_answers_own():
    schema = {"type": "string"}
    spec = {"kind": "schema", "schema": schema, "expected": "a  b", "extract": {"kind": "tag"}}
    assert judge(parse_spec(spec), '<answer>\n"a  b"\n</answer>').status == "correct"
    assert judge(parse_spec(spec), '<answer>"a b"</answer>').status == "wrong"
    assert judge(parse_spec(spec), '<answer>"a\nb"</answer>').status == "malformed"


@pytest.mark.parametrize(
    ("schema", "loops"),
    [
        ({"$ref": "#"}, True), ({"allOf": [{"$ref": "#"}]}, True), ({"not": {"$ref": "#"}}, True),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}}, True),
        ({"properties": {"next": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"$ref": "#/$defs/x"}}}, True),
        ({"properties": {"next": {"$ref": "#"}}}, False), ({"items": {"anyOf": [{"$ref": "#"}, {}]}}, False),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"items": {"$ref": "#/$defs/a~1b"}}}}, False),
        ({"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}], "$defs": {"a": {"type": "object"}}}, False),
    ],
)  # fmt: skip
def test_a_reference_that_leads_back_to_itself_is_refused(schema: Any, loops: bool):
    if loops:
        with pytest.raises(SpecError, match="leads back to itself"):
            parse_spec({"kind": "schema", "schema": schema})
    else:
        parse_spec({"kind": "schema", "schema": schema})


def test_formats_are_checked():
    spec = parse_spec({"kind": "schema", "schema": {"type": "string", "format": "date"}})
    assert judge(spec, '"2024-02-29"').status == "correct"
    assert judge(spec, '"2023-02-29"').status == "wrong"


def test_a_remote_reference_is_refused_without_a_request():
    with socket.create_server(("127.0.0.1", 0)) as server:
        heard = threading.Event()
        server.settimeout(1.0)

        def listen() -> None:
            try:
                server.accept()[0].close()
                heard.set()
            except TimeoutError:
                return

        listener = threading.Thread(target=listen)
        listener.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        with pytest.raises(SpecError, match=url):
            parse_spec({"kind": "schema", "schema": {"$ref": url}})
        listener.join()
        assert not heard.is_set()


def test_a_pattern_that_backtracks_forever_ends():
    spec = parse_spec({"kind": "schema", "schema": {"type": "string", "pattern": "^(a+)+(?=b)$"}})
    assert judge(spec, json.dumps("a" * 5_000)).status == "wrong"


def cases(draft: str):
    for path in sorted((SUITE / draft).glob("*.json")):
        for group in json.loads(path.read_text()):
            schema = group["schema"]
            if isinstance(schema, dict) and "$schema" not in schema:
                schema = {"$schema": DRAFTS[draft], **schema}
            yield path.stem, group["description"], schema, group["tests"]


@pytest.mark.skipif(not SUITE.exists(), reason=f"{SUITE} is absent")
@pytest.mark.parametrize("draft", DRAFTS)
def test_the_official_suite_passes_where_it_needs_no_network(draft: str):
    """Required tests of the JSON-Schema-Test-Suite. Schemas that refer to the suite's own
    server are refused, by intention; so are tests that want formats ignored."""
    passed, refused = 0, 0
    for name, group, schema, tests in cases(draft):
        try:
            validator = compile_schema(json.dumps(schema))
        except SchemaError:
            assert "localhost:1234" in json.dumps(schema), (name, group)
            refused += len(tests)
            continue
        for test in tests:
            if name == "format" and "only an annotation" in test["description"]:
                continue
            assert validator.is_valid(test["data"]) == test["valid"], (name, group, test)
            passed += 1
    assert passed > 500
    assert refused < 80


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
def test_strict_json_reads_back_what_was_written(value: Any):
    assert strict_json.equal(strict_json.loads(json.dumps(value)), value)


@given(st.text())
def test_any_text_is_strict_json_or_a_strict_json_error(text: str):
    try:
        strict_json.loads(text)
    except strict_json.StrictJsonError:
        return
    json.loads(text)
