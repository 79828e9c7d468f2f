"""Specs: what is refused, and that what is accepted survives as data."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifiers.spec import ADAPTER, KINDS, SpecError, dump_spec, parse_spec

MINIMAL = [
    {"kind": "math", "answer": "\\frac{1}{2}"},
    {"kind": "schema", "schema": {"type": "object"}, "expected": {}},
    {"kind": "schema", "schema": True},
    {"kind": "choice", "answer": "B", "choices": ["Rome", "Paris"]},
    {"kind": "text", "answer": "Paris", "ignore_case": True},
    {"kind": "text", "number": 3.14, "tolerance": 0.01},
    {"kind": "text", "regex": "[a-z]+"},
    {"kind": "sql", "engine": "sqlite", "database": "shop.sqlite", "query": "SELECT 1"},
    {"kind": "remote", "url": "https://grader.example/score", "secret": "team", "item": {"a": 1}},
    {
        "kind": "composite",
        "gate": {"kind": "schema", "schema": {}},
        "parts": [{"verifier": {"kind": "math", "answer": "1"}, "weight": 2.0}],
    },
]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"kind": "mth", "answer": "1"}, "the kinds are math, "),
        ({"answer": "1"}, "kind: None is no verifier"),
        ({"kind": "math"}, "answer: Field required"),
        ({"kind": "math", "answer": 3}, "answer: Input should be a valid string"),
        ({"kind": "math", "answer": "  "}, "answer: '  ' is empty"),
        ({"kind": "math", "answer": "\\frac{1"}, "unbalanced braces"),
        ({"kind": "math", "answer": "1", "tolerance": 2}, "tolerance: Extra inputs"),
        ({"kind": "math", "answer": "1", "extract": {"kind": "guess"}}, "extract"),
        ({"kind": "math", "answer": "1", "extract": {"kind": "json_path", "path": "a"}}, "path"),
        ({"kind": "math", "answer": "1", "extract": {"kind": "tag", "tag": "a b"}}, "tag"),
        ({"kind": "schema"}, "schema: Field required"),
        ({"kind": "schema", "schema": {"type": "objekt"}}, "objekt"),
        ({"kind": "schema", "schema": {"$schema": "urn:no-such-draft"}}, "schema"),
        ({"kind": "schema", "schema": {"$ref": "http://127.0.0.1:9/x"}}, "127.0.0.1"),
        ({"kind": "schema", "schema": {"$ref": "file:///etc/passwd"}}, "file:///etc/passwd"),
        ({"kind": "schema", "schema": {"type": "string"}, "expected": 1}, "expected: does not fit"),
        ({"kind": "choice", "answer": "C", "choices": ["x", "y"]}, "letter from A to B"),
        ({"kind": "choice", "answer": "A", "choices": ["only"]}, "choices"),
        ({"kind": "choice", "answer": "A", "choices": ["same", "Same "]}, "the same text"),
        ({"kind": "choice", "answer": "A", "choices": ["B", "A"]}, "neither a letter"),
        ({"kind": "sql", "query": "SELECT 1"}, "database: Field required"),
        ({"kind": "sql", "database": "a", "query": " "}, "query: is empty"),
        ({"kind": "sql", "database": "a", "query": "SELECT 1", "engine": "mysql"}, "engine"),
        ({"kind": "remote", "url": "https://a.example"}, "secret: Field required"),
        ({"kind": "remote", "url": "ftp://a.example", "secret": "k"}, "url: 'ftp://a.example'"),
        ({"kind": "remote", "url": "https://u:p@a.example", "secret": "k"}, "url: must not hold"),
        ({"kind": "remote", "url": "https://a.example/ b", "secret": "k"}, "url: holds blanks"),
        ({"kind": "remote", "url": "https://a:99999/", "secret": "k"}, "url"),
        ({"kind": "remote", "url": "https://a.example", "secret": "../k"}, "secret"),
        ({"kind": "composite", "parts": []}, "parts"),
        ({"kind": "composite", "parts": [{"verifier": {"kind": "math"}}]}, "answer"),
        (
            {
                "kind": "composite",
                "combine": "all",
                "parts": [{"verifier": {"kind": "math", "answer": "1"}, "weight": 2}],
            },
            "weight: means nothing",
        ),
        ({"kind": "text"}, "give one of answer, number and regex, not none"),
        ({"kind": "text", "answer": "a", "regex": "a"}, "not answer and regex"),
        ({"kind": "text", "answer": "  "}, "answer: an empty text"),
        ({"kind": "text", "answer": "a", "tolerance": 1}, "tolerance: only a number"),
        ({"kind": "text", "number": 1, "ignore_case": True}, "ignore_case"),
        ({"kind": "text", "number": float("nan")}, "number"),
        ({"kind": "text", "number": 1, "tolerance": -1}, "tolerance"),
        ({"kind": "text", "regex": "(a"}, "regex: no RE2 pattern: missing )"),
        ({"kind": "text", "regex": "(a)\\1"}, "regex: no RE2 pattern"),
        ({"kind": "text", "regex": "(?=a)b"}, "regex: no RE2 pattern"),
        ({"kind": "text", "regex": "((a{99}){99}){99}"}, "regex: no RE2 pattern"),
    ],
)
def test_a_bad_spec_is_refused_with_the_name_of_the_field(data: dict[str, object], says: str):
    with pytest.raises(SpecError) as refusal:
        parse_spec(data)
    assert says in str(refusal.value)


def test_every_wrong_field_is_named_at_once():
    with pytest.raises(SpecError) as refusal:
        parse_spec({"kind": "choice", "answer": 1, "choices": "AB", "extra": 0})
    assert all(name in str(refusal.value) for name in ("answer", "choices", "extra"))


@pytest.mark.parametrize("data", MINIMAL)
def test_a_spec_survives_as_json(data: dict[str, object]):
    spec = parse_spec(data)
    assert dump_spec(spec) == data
    assert parse_spec(json.loads(json.dumps(dump_spec(spec)))) == spec


def test_an_expected_null_is_a_value_and_an_absent_one_is_none():
    absent = parse_spec({"kind": "schema", "schema": {}})
    null = parse_spec({"kind": "schema", "schema": {}, "expected": None})
    assert "expected" not in dump_spec(absent)
    assert dump_spec(null)["expected"] is None


def test_specs_do_not_change():
    spec = parse_spec({"kind": "math", "answer": "1"})
    with pytest.raises(ValueError, match="frozen"):
        spec.answer = "2"  # type: ignore[misc,union-attr]


def test_the_json_schema_documents_every_kind_and_the_fixed_names():
    definitions = ADAPTER.json_schema()["$defs"]
    assert set(definitions["SchemaSpec"]["properties"]) == {
        "kind", "schema", "expected", "extract",
    }  # fmt: skip
    assert set(definitions["ChoiceSpec"]["required"]) == {"answer", "choices"}
    assert set(definitions["MathSpec"]["properties"]) == {"kind", "answer", "extract"}


@given(st.dictionaries(st.text(max_size=10), st.text(max_size=20), max_size=4))
def test_any_data_is_a_spec_or_a_spec_error(data: dict[str, str]):
    for kind in KINDS:
        try:
            parse_spec({**data, "kind": kind})
        except SpecError:
            continue
