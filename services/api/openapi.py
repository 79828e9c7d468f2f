"""The OpenAPI document: what the routes say of themselves, and what holds for all of them.

Which errors an operation can answer follows from what it takes, so no route lists them; the
one error body, the headers and the examples are added here too. `python -m
services.api.openapi` prints the document.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from services.api.errors import ProblemBody
from services.api.openapi_examples import OPERATIONS, schema_examples
from services.api.openapi_links import add_links

DESCRIPTION = """Self-hosted post-training of reasoning models with RLSD.

OpenAI's clients work unmodified; what goes beyond their dialect is said with each operation.

* **Errors** have one body, RFC 9457's `application/problem+json` and OpenAI's `error` at once.
* **Lists** are pages: `limit` items from behind the item `after`; `last_id` is the next `after`,
  `has_more` says whether there is one.
* **`Idempotency-Key`** makes a request that creates something safe to repeat for 24 hours.
* **`ETag`** comes with what can change: `If-None-Match` answers 304 to what is known, `If-Match`
  refuses with 412 to change what has changed since.
* **`X-Request-Id`** is answered to every request, the caller's own if it sent one.
"""

_PARAMETERS = {
    "job_id": "Identifier of the job, `ftjob-...`.",
    "file_id": "Identifier of the file, `file-...`.",
    "key_id": "Identifier of the key: its middle part.",
    "endpoint_id": "Identifier of the webhook endpoint.",
    "model": "Name of the model.",
    "rollout_id": "Identifier of the rollout, `<step>-<group>-<rollout>`.",
}
_MEANINGS = {
    400: "The body is not strict JSON.",
    401: "The key is missing, unknown, revoked or expired.",
    403: "The caller is known and may not do this.",
    404: "There is no such object, or it is another tenant's.",
    408: "The body did not arrive in time.",
    409: "What was asked contradicts what there is.",
    412: "The object has changed since the caller saw it.",
    413: "The body is larger than the service accepts.",
    415: "The body is of a type that is not read here.",
    421: "The service is asked by a name that is not its own.",
    422: "Fields are wrong: `errors` has every one.",
    429: "A limit of the tenant is reached.",
    500: "The service failed; its log says why, under the request's id.",
    503: "Something that the service needs is away at this moment.",
    507: "No room is left to store this.",
}
_REVISIONED = {"JobObject", "FileObject"}
_REQUEST_ID = {
    "description": "The request's id: what the service's log and audit log know it by.",
    "schema": {"type": "string"},
}
_RETRY_AFTER = {
    "description": "Seconds after which the same request may do better.",
    "schema": {"type": "integer"},
}
_ETAG = {
    "description": "Entity tag of this state of the object.",
    "schema": {"type": "string"},
}


def operation_id(route: APIRoute) -> str:
    """A route's operationId: the name of its function."""
    return route.name


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document."""
    if app.openapi_schema is None:
        app.openapi_schema = _complete(FastAPI.openapi(app))
    return app.openapi_schema


def _complete(found: dict[str, Any]) -> dict[str, Any]:
    components = found["components"]
    schemas = components["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    models: dict[str, Any] = ProblemBody.model_json_schema(
        ref_template="#/components/schemas/{model}"
    )
    schemas.update(models.pop("$defs"))
    schemas["ProblemBody"] = models
    for name, example in schema_examples().items():
        if name in schemas:
            schemas[name].setdefault("examples", [example])
    components["responses"] = {str(status): _problem(status) for status in _MEANINGS}
    for _, method, operation in _operations(found):
        _complete_operation(method, operation)
    add_links(found["paths"])
    return found


def _operations(found: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            yield path, method, operation


def _problem(status: int) -> dict[str, Any]:
    headers = {"X-Request-Id": _REQUEST_ID}
    if status in (409, 429, 503):
        headers["Retry-After"] = _RETRY_AFTER
    return {
        "description": _MEANINGS[status],
        "headers": headers,
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemBody"}}
        },
    }


def _complete_operation(method: str, operation: dict[str, Any]) -> None:
    parameters: list[dict[str, Any]] = operation.setdefault("parameters", [])
    for parameter in parameters:
        parameter.setdefault("description", _PARAMETERS.get(parameter["name"], ""))
    responses = operation["responses"]
    ok = responses["200"]
    ok.setdefault("headers", {})["X-Request-Id"] = _REQUEST_ID
    content: dict[str, Any] = ok.get("content", {})
    for media in content.values():
        if operation["operationId"] in OPERATIONS:
            media["example"] = OPERATIONS[operation["operationId"]]
    shown = str(content.get("application/json", {}).get("schema", {}).get("$ref", ""))
    revisioned = shown.rpartition("/")[2] in _REVISIONED
    if revisioned:
        ok["headers"]["ETag"] = _ETAG
    if revisioned and method == "get":
        parameters.append(
            {
                "name": "If-None-Match",
                "in": "header",
                "required": False,
                "schema": {"type": "string"},
                "description": "Entity tag of what the caller has: 304 when it is still so.",
            }
        )
        responses["304"] = {
            "description": "The caller has it already.",
            "headers": {"ETag": _ETAG, "X-Request-Id": _REQUEST_ID},
        }
    for status in sorted(_errors_of(method, operation)):
        responses[str(status)] = {"$ref": f"#/components/responses/{status}"}


def _errors_of(method: str, operation: dict[str, Any]) -> set[int]:
    """The errors that an operation can answer, by what it takes."""
    parameters = operation["parameters"]
    names = {parameter["name"].lower() for parameter in parameters}
    places = {parameter["in"] for parameter in parameters}
    errors = {500, 503} if operation["operationId"] != "healthz" else set[int]()
    if "security" in operation:
        errors |= {401, 403, 421, 429}
    if parameters or "requestBody" in operation:
        errors.add(422)
    if "path" in places or "after" in names or "requestBody" in operation:
        errors.add(404)  # a body may name what is not there, too
    if method != "get":
        errors |= {400, 408, 409, 413, 415}
    if "if-match" in names:
        errors.add(412)
    if "multipart/form-data" in operation.get("requestBody", {}).get("content", {}):
        errors.add(507)
    return errors


def main() -> None:
    """Print the document."""
    from services.api.app import create_app
    from services.settings import Settings

    print(json.dumps(document(create_app(Settings())), indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
