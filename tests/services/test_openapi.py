"""The OpenAPI document: complete, true to its examples, and changed only on purpose."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from pydantic import SecretStr

from services.api.app import create_app
from services.api.openapi import document
from services.settings import Settings

SNAPSHOT = Path(__file__).with_name("openapi.json")
REGENERATE = f"python -m services.api.openapi > tests/services/{SNAPSHOT.name}"


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    return document(create_app(Settings(redis_url=SecretStr("redis://x"))))


def operations(openapi: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def resolved(openapi: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """What a reference stands for."""
    while "$ref" in node:
        found: Any = openapi
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node


def test_the_document_is_the_one_that_was_agreed_on(openapi: dict[str, Any]) -> None:
    now = json.loads(json.dumps(openapi))
    assert now == json.loads(SNAPSHOT.read_text()), f"if it was meant: {REGENERATE}"


def described(openapi: dict[str, Any], schema: dict[str, Any]) -> bool:
    """Whether it, or what it may be, says what it means."""
    if "description" in schema or "description" in resolved(openapi, schema):
        return True
    return any(described(openapi, one) for one in schema.get("anyOf", ()))


def test_every_property_is_described(openapi: dict[str, Any]) -> None:
    def bare(place: str, node: Any) -> Iterator[str]:
        if isinstance(node, list):
            for item in node:
                yield from bare(place, item)
        if not isinstance(node, dict):
            return
        for name, schema in node.get("properties", {}).items():
            if not described(openapi, schema):
                yield f"{place}.{name}"
            yield from bare(f"{place}.{name}", schema)
        for key in ("items", "anyOf", "oneOf", "allOf", "additionalProperties"):
            yield from bare(place, node.get(key))

    schemas = openapi["components"]["schemas"]
    assert [where for name, schema in schemas.items() for where in bare(name, schema)] == []
    for path, method, operation in operations(openapi):
        for media in operation.get("requestBody", {}).get("content", {}).values():
            assert list(bare(f"{method} {path}", media["schema"])) == []


def test_every_operation_is_described_and_its_parameters_too(openapi: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(openapi)]
    assert len(ids) == len(set(ids)) >= 20
    for path, method, operation in operations(openapi):
        place = f"{method} {path}"
        assert operation["summary"], place
        assert operation["description"], place
        assert operation["tags"], place
        for parameter in operation["parameters"]:
            assert parameter["description"], f"{place} {parameter['name']}"
        assert ("security" in operation) == (path not in ("/healthz", "/readyz")), place


def test_every_operation_has_an_example(openapi: dict[str, Any]) -> None:
    def shown(node: Any, seen: frozenset[str]) -> bool:
        if isinstance(node, list):
            return any(shown(item, seen) for item in node)
        if not isinstance(node, dict):
            return False
        if "$ref" in node:
            ref = node["$ref"]
            return ref not in seen and shown(resolved(openapi, node), seen | {ref})
        if node.get("example") or node.get("examples"):
            return True
        return any(shown(value, seen) for value in node.values())

    for path, method, operation in operations(openapi):
        bodies = [operation.get("requestBody"), operation["responses"]["200"].get("content")]
        assert shown(bodies, frozenset()), f"{method} {path} has no example"


def test_every_example_fits_its_schema(openapi: dict[str, Any]) -> None:
    checked = 0
    schemas = {
        "$defs": {
            name: json.loads(json.dumps(schema).replace("#/components/schemas/", "#/$defs/"))
            for name, schema in openapi["components"]["schemas"].items()
        }
    }
    for name, schema in schemas["$defs"].items():
        for example in schema.get("examples", ()):
            validator = jsonschema_rs.validator_for({"$ref": f"#/$defs/{name}", **schemas})
            errors = [str(error) for error in validator.iter_errors(example)]
            assert errors == [], name
            checked += 1
    assert checked >= 5


def test_every_error_that_an_operation_can_answer_is_the_one_body(
    openapi: dict[str, Any],
) -> None:
    for path, method, operation in operations(openapi):
        for status, response in operation["responses"].items():
            if int(status) < 400:
                continue
            content = resolved(openapi, response)["content"]
            assert list(content) == ["application/problem+json"], f"{method} {path} {status}"
        if "security" in operation:
            assert {"401", "403", "429", "500", "503"} <= set(operation["responses"]), path
