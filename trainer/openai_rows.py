"""Items of OpenAI's reinforcement fine-tuning, put into Strop's own fields.

    {"messages": [{"role": "user", "content": "Capital of Norway?"}], "city": "Oslo"}

One grader for the whole data set says what is right (`verifiers.openai_graders`); what it
names as `item.*` stands beside the `messages`. A `developer` speaks as the system does.

The teacher may see what the item has under `privileged`, as in a task of our own; without
that, the text that a grader of one reference compares with is the item's `answer`. Tools are
refused: the policy is offered none. Knows nothing of files or of who judges.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from verifiers import templates
from verifiers.grader_specs import StringCheckSpec, TextSimilaritySpec
from verifiers.openai_graders import Grader, spec_of
from verifiers.spec import AnySpec, SpecError, dump_spec

TOOLS = ("tools", "functions", "parallel_tool_calls")


class ItemError(ValueError):
    """An item that cannot be used; `field` is its own name for what is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def translated(row: Mapping[str, Any], grader: Grader) -> dict[str, Any]:
    """The item in the fields of `trainer.rows`. Raises ItemError."""
    for field in ("verifier", "reward_model"):
        if field in row:
            raise ItemError(
                field, "says what is right, and so does the job's grader: give one of the two"
            )
    for field in TOOLS:
        if row.get(field):
            raise ItemError(field, "the policy is offered no tools: leave them out")
    if "messages" not in row:
        raise ItemError("messages", "is missing: an item holds a chat")
    try:
        spec = spec_of(grader, row)
    except SpecError as error:
        raise ItemError("grader", str(error)) from None
    found: dict[str, Any] = {"messages": _messages(row["messages"]), "verifier": dump_spec(spec)}
    if row.get("id") is not None:
        found["id"] = str(row["id"])
    if row.get("privileged") is not None:
        found["privileged"] = row["privileged"]
    elif answer := answer_of(spec):
        found["privileged"] = {"answer": answer}
    return found


def answer_of(spec: AnySpec) -> str | None:
    """The one text that a spec holds completions against; None where there is no such text."""
    if isinstance(spec, StringCheckSpec | TextSimilaritySpec):
        if isinstance(spec, StringCheckSpec) and spec.operation == "ne":
            return None
        sides = (spec.reference, spec.input)
        gold = [text for text in sides if not templates.uses(text, "sample")]
        return templates.render(gold[0], spec.item, {}) if gold else None
    answer: Any = getattr(spec, "answer", None)
    return answer if isinstance(answer, str) else None


def _messages(messages: Any) -> Any:
    """The chat with OpenAI's newer name of a role under its older one."""
    if not isinstance(messages, list):
        return messages
    return [
        {**cast("dict[str, Any]", one), "role": "system"}
        if isinstance(one, dict) and cast("dict[str, Any]", one).get("role") == "developer"
        else one
        for one in cast("list[Any]", messages)
    ]
