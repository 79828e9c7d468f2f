"""The OpenAPI document's links: what may be done next with an object that was just made.

An operation that makes an object answers with its `id`, which is what every operation below
its place in the tree of paths calls that object. Nothing is listed here: the paths say it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_BELOW = re.compile(r"(?P<place>.*)/\{(?P<name>\w+)\}(?:/\w+)?")
_LIKE_IT = re.compile(r"(?P<place>.*)/\{\w+\}/retry")


def add_links(paths: Mapping[str, Mapping[str, dict[str, Any]]]) -> None:
    """Give each operation that makes an object the links to what takes its `id`."""
    for path, methods in paths.items():
        if "post" not in methods:
            continue
        again = _LIKE_IT.fullmatch(path)
        if links := dict(_links(paths, again["place"] if again else path)):
            methods["post"]["responses"]["200"]["links"] = links


def _links(
    paths: Mapping[str, Mapping[str, dict[str, Any]]], place: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in paths.items():
        below = _BELOW.fullmatch(path)
        if below is None or below["place"] != place:
            continue
        for operation in methods.values():
            name = operation["operationId"]
            yield (
                name,
                {
                    "operationId": name,
                    "parameters": {below["name"]: "$response.body#/id"},
                    "description": operation["summary"] + ": the one that was made.",
                },
            )
