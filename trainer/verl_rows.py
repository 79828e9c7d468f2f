"""Rows written for verl or EasyR1, put into Strop's own fields.

verl:   {"data_source": "openai/gsm8k", "prompt": [{"role": "user", "content": "..."}],
         "reward_model": {"style": "rule", "ground_truth": "72"},
         "extra_info": {"split": "train", "index": 0, "answer": "..."}, "images": [...]}
EasyR1: {"problem": "...", "answer": "72", "images": [...]}

| row                                              | verifier                                |
|--------------------------------------------------|-----------------------------------------|
| `extra_info.verifier`                            | that spec                               |
| `ground_truth` is a spec, or its JSON text       | that spec                               |
| `ground_truth` is JSON with `inputs`, `outputs`  | `code`, by standard input and output    |
| `ground_truth` is another text or a number       | `math`: the answer                      |
| `style` other than `rule`; anything else         | refused: no rule says what is right     |

`data_source` decides nothing but the task's id. The teacher may see the ground truth as
`answer`, and `extra_info.solution` or a worked `extra_info.answer` as `trace`. An image
stands where `<image>` does. Fields that neither framework's reward reads are left aside.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from verifiers.adapters import read_spec

IMAGE = "<image>"


class ForeignRowError(ValueError):
    """A verl or EasyR1 row that cannot be used; `field` is its own name for what is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def is_foreign(row: Mapping[str, Any]) -> bool:
    """Whether a row is verl's or EasyR1's and not Strop's own."""
    return "verifier" not in row and ("reward_model" in row or "problem" in row)


def translated(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row in the fields of `trainer.rows`. Raises ForeignRowError."""
    return _verl(row) if "reward_model" in row else _easy_r1(row)


def _verl(row: Mapping[str, Any]) -> dict[str, Any]:
    model = _mapping("reward_model", row["reward_model"])
    extra = _mapping("extra_info", row.get("extra_info") or {})
    style = model.get("style", "rule")
    if style != "rule":
        raise ForeignRowError(
            "reward_model.style",
            f"{style!r}: only `rule` rewards can be verified; give extra_info.verifier",
        )
    field = "reward_model.ground_truth"
    truth = model.get("ground_truth")
    given = extra.get("verifier")
    messages: Any = row.get("prompt")
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, list) or not messages:
        raise ForeignRowError("prompt", "is neither a text nor a list of chat messages")
    verifier = _verifier(field, truth) if given is None else dict(read_spec(given))
    found: dict[str, Any] = {
        "messages": _with_images(cast("list[Any]", messages), row.get("images")),
        "verifier": verifier,
        "privileged": _privileged(truth, verifier, extra),
    }
    if (index := extra.get("index")) is not None:
        parts = (row.get("data_source"), extra.get("split"), index)
        found["id"] = "-".join(str(part) for part in parts if part is not None)
    return found


def _easy_r1(row: Mapping[str, Any]) -> dict[str, Any]:
    problem, answer = row["problem"], row.get("answer")
    if not isinstance(problem, str) or not problem:
        raise ForeignRowError("problem", "is not the text of a problem")
    verifier = _verifier("answer", answer)
    return {
        "messages": _with_images([{"role": "user", "content": problem}], row.get("images")),
        "verifier": verifier,
        "privileged": _privileged(answer, verifier, {"solution": row.get("solution")}),
    }


def _verifier(field: str, truth: Any) -> dict[str, Any]:
    """The spec that a ground truth stands for."""
    truth = _single(truth)
    if isinstance(truth, Mapping) and "kind" not in truth:
        truth = json.dumps(truth)
    if isinstance(truth, str) and (tests := _tests(truth)) is not None:
        return _program(field, tests)
    if isinstance(truth, bool) or not isinstance(truth, str | int | float | Mapping) or truth == "":
        raise ForeignRowError(field, f"is {_kind(truth)}, not an answer; give extra_info.verifier")
    return dict(read_spec(cast("Any", truth)))


def _tests(truth: str) -> dict[str, Any] | None:
    """The object in a JSON text that is no spec of ours."""
    if not truth.lstrip().startswith("{"):
        return None
    try:
        data: Any = json.loads(truth)
    except ValueError:
        return None  # LaTeX begins with a brace too
    if not isinstance(data, dict) or "kind" in data:
        return None
    return cast("dict[str, Any]", data)


def _program(field: str, tests: Mapping[str, Any]) -> dict[str, Any]:
    inputs, outputs = tests.get("inputs"), tests.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or "fn_name" in tests:
        raise ForeignRowError(
            field,
            f"is an object of {', '.join(sorted(tests)) or 'nothing'}; of these only `inputs` "
            "with `outputs` of whole programs are read; give extra_info.verifier",
        )
    pairs = list(zip(cast("list[Any]", inputs), cast("list[Any]", outputs), strict=False))
    if not pairs or len(cast("list[Any]", inputs)) != len(cast("list[Any]", outputs)):
        raise ForeignRowError(field, "needs as many `outputs` as `inputs`, and at least one")
    stdio = [{"stdin": _lines(given), "stdout": _lines(wanted)} for given, wanted in pairs]
    return {"kind": "code", "stdio": stdio}


def _lines(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(str(line) for line in cast("list[Any]", value))
    return str(value)


def _single(truth: Any) -> Any:
    """verl's own data sets also write an answer as a list of one."""
    if isinstance(truth, list):
        items = cast("list[Any]", truth)
        return items[0] if len(items) == 1 else items
    return truth


def _privileged(
    truth: Any, verifier: Mapping[str, Any], extra: Mapping[str, Any]
) -> dict[str, Any]:
    truth = _single(truth)
    plain = isinstance(truth, str | int | float) and not str(truth).lstrip().startswith('{"')
    answer = str(truth) if plain else verifier.get("answer")
    found = {"answer": answer} if isinstance(answer, str) and answer else {}
    for name in ("solution", "answer"):
        worked = extra.get(name)
        if isinstance(worked, str) and worked.strip() and worked != answer:
            found["trace"] = worked
            break
    return found


def _with_images(messages: list[Any], images: Any) -> list[Any]:
    """The messages with each image as a part, where the text says `<image>`."""
    if images is None or len(images) == 0:
        return messages
    left = iter(cast("Sequence[Any]", images))
    laid: list[Any] = []
    for message in messages:
        if isinstance(message, dict):
            fields = cast("dict[str, Any]", message)
            if IMAGE in str(fields.get("content")):
                laid.append({**fields, "content": list(_parts(fields["content"], left))})
                continue
        laid.append(message)
    if rest := len(list(left)):
        raise ForeignRowError("images", f"{rest} of {len(images)} have no {IMAGE} in the prompt")
    return laid


def _parts(content: Any, images: Iterator[Any]) -> Iterator[dict[str, Any]]:
    first, *others = str(content).split(IMAGE)
    if first:
        yield {"type": "text", "text": first}
    for text in others:
        image = next(images, None)
        if image is None:
            raise ForeignRowError("images", f"are fewer than the prompt's {IMAGE}")
        yield {"type": "image_url", "image_url": {"url": _url(image)}}
        if text:
            yield {"type": "text", "text": text}


def _url(image: Any) -> str:
    """Where an image is: its path, or the bytes themselves as a data URL."""
    if isinstance(image, str) and image:
        return image
    if isinstance(image, Mapping):
        fields = cast("Mapping[str, Any]", image)
        if isinstance(data := fields.get("bytes"), bytes):
            return f"data:application/octet-stream;base64,{base64.b64encode(data).decode()}"
        path = fields.get("path") or fields.get("image")
        if isinstance(path, str) and path:
            return path
    raise ForeignRowError("images", f"holds {_kind(cast('Any', image))}, neither a path nor bytes")


def _mapping(field: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ForeignRowError(field, f"is {_kind(value)}; it should be an object")
    return cast("Mapping[str, Any]", value)


def _kind(value: Any) -> str:
    return type(value).__name__
