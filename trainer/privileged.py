"""The two views of a task: the policy's prompt, and the teacher's with privileged context.

The teacher reads one extra turn before the assistant begins. It is joined to the last
user message by a blank line, not sent as a second user message: the chat templates of
Llama 2, Mistral and Gemma refuse two user turns in a row ("roles must alternate"), and
one that allows them gains nothing. After a last turn of another role it is a user turn
of its own. An empty turn leaves the task as it is, so both views have the same tokens.

A completion is sampled once and scored as the very same token ids under both prompts;
nothing here touches a completion. The tokeniser is the only model part it knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray

from trainer.records import Rollout, Task
from trainer.spec import GROUP_KINDS, PrivilegedSpec
from trainer.templates import PrivilegedError, fields_used, rendered
from verifiers.verdict import Verdict

SHORTEST_PIECE = 80
"""Characters of a piece of privileged text below which it is no use to shorten it."""

CHARACTERS_PER_TOKEN = 16
"""More than a tokeniser of any language packs into a token, on average."""

Messages = tuple[Mapping[str, Any], ...]


class PromptError(ValueError):
    """A task's messages that the tokeniser's chat template cannot lay out."""


class ChatTokenizer(Protocol):
    """The part of a Hugging Face tokeniser used here."""

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class TeacherPrompt:
    """`ids` int32[P']: the teacher's prompt, in which `turn` is what only the teacher reads.
    `left_out` characters of privileged text were left out of it, at marked places; `fits` is
    False when it is still too long."""

    ids: NDArray[np.int32]
    turn: str = ""
    left_out: int = 0
    fits: bool = True


class TeacherView:
    """The teacher's prompts of a job: one for a whole group, or one for each completion."""

    def __init__(
        self,
        spec: PrivilegedSpec,
        tokenizer: ChatTokenizer,
        *,
        room: int | None = None,
        shorten: bool = False,
    ) -> None:
        """`room`: tokens that a prompt may have (None: any number). What does not fit is
        shortened with `shorten`, and told by `fits` without."""
        self.spec = spec
        self._tokenizer = tokenizer
        self._room = room
        self._shorten = shorten

    def of_task(self, task: Task) -> TeacherPrompt:
        """The prompt of a task, for kinds that need no group.

        Raises PrivilegedError when the template cannot be filled, PromptError when the
        chat template refuses the messages.
        """
        if self.spec.kind in GROUP_KINDS:
            raise PrivilegedError(
                f"privileged.kind {self.spec.kind} is made of a group's rollouts: a task alone "
                "has no such view"
            )
        return self._fitted(task, task_fields(task))

    def of_group(
        self, task: Task, rollouts: Sequence[Rollout], verdicts: Sequence[Verdict]
    ) -> list[TeacherPrompt | None]:
        """The prompt under which each rollout is scored, aligned with `rollouts`.

        None where there is no context, or where it does not fit: such a completion has no
        evidence. A sibling is the group's first correct rollout that is not the completion
        itself, by its place or by its tokens: a copy of itself would confirm every token.
        Equal prompts are one object.
        """
        if self.spec.kind not in GROUP_KINDS:
            prompt = self.of_task(task)
            return [prompt if prompt.fits else None] * len(rollouts)
        made: dict[frozenset[tuple[str, str]], TeacherPrompt | None] = {}
        prompts: list[TeacherPrompt | None] = []
        for index in range(len(rollouts)):
            seen = _group_fields(index, rollouts, verdicts, self.spec)
            key = frozenset(seen.items())
            if key not in made:
                made[key] = self._of_context(task, seen)
            prompts.append(made[key])
        return prompts

    def _of_context(self, task: Task, seen: Mapping[str, str]) -> TeacherPrompt | None:
        if not seen:
            return None
        prompt = self._fitted(task, {**task_fields(task), **seen})
        return prompt if prompt.fits else None

    def _fitted(self, task: Task, fields: Mapping[str, Any]) -> TeacherPrompt:
        """The prompt with these fields, shortened when it must and may be.

        Every piece of text longer than some length loses its middle; the length is the
        largest with which the prompt fits.
        """

        used = fields_used(self.spec)
        fields = {name: value for name, value in fields.items() if name in used}

        def lay(longest: int | None) -> TeacherPrompt:
            shown, left_out = (fields, 0) if longest is None else _shortened(fields, longest)
            turn = rendered(self.spec, shown, f"task {task.id!r}")
            ids = _prompt(task.id, with_turn(task.messages, turn), self._tokenizer)
            return TeacherPrompt(ids, turn, left_out)

        limit = self._limit(task)
        whole = lay(None)
        if limit is None or len(whole.ids) <= limit:
            return whole
        if not self._shorten:
            return replace(whole, fits=False)
        longest = max((len(piece) for piece in _pieces(fields)), default=0)
        longest = min(longest, CHARACTERS_PER_TOKEN * limit)
        found = _largest(lambda n: len(lay(n).ids) <= limit, SHORTEST_PIECE, longest)
        return replace(whole, fits=False) if found is None else lay(found)

    def _limit(self, task: Task) -> int | None:
        if self.spec.max_tokens is None:
            return self._room
        most = len(student_prompt(task, self._tokenizer)) + self.spec.max_tokens
        return most if self._room is None else min(most, self._room)


def task_fields(task: Task) -> dict[str, Any]:
    """What a template may say of a task: `answer` and `trace` where it has them, and the list
    of its `documents`."""
    fields: dict[str, Any] = {"documents": list(task.privileged.documents)}
    if task.privileged.answer is not None:
        fields["answer"] = task.privileged.answer
    if task.privileged.trace is not None:
        fields["trace"] = task.privileged.trace
    return fields


def sibling_of(index: int, rollouts: Sequence[Rollout], verdicts: Sequence[Verdict]) -> str | None:
    """The text of the first correct rollout other than `index` and its copies; None without."""
    own = rollouts[index].completion_ids
    for rollout, verdict in zip(rollouts, verdicts, strict=True):
        if verdict.status == "correct" and not np.array_equal(rollout.completion_ids, own):
            return rollout.text
    return None


def feedback(verdict: Verdict) -> str | None:
    """What the verifier said of a completion that failed; None for one that is correct, or
    that it could not judge."""
    if verdict.status in ("correct", "infra_error"):
        return None
    said = [f"{name}: {value}" for name, value in verdict.evidence.items()]
    return "\n".join([f"verdict: {verdict.status}", *said])


def privileged_turn(task: Task, spec: PrivilegedSpec) -> str:
    """The text that only the teacher reads; "" for kind `none`, and for kinds that need a group.

    Raises PrivilegedError naming the task when the template cannot be filled.
    """
    if spec.kind in GROUP_KINDS:
        return ""
    return rendered(spec, task_fields(task), f"task {task.id!r}")


def completion_turn(
    index: int,
    task: Task,
    rollouts: Sequence[Rollout],
    verdicts: Sequence[Verdict],
    spec: PrivilegedSpec,
) -> str:
    """The text that only the teacher of a group's completion `index` reads; "" without any.

    Raises PrivilegedError naming the task when the template cannot be filled.
    """
    if spec.kind not in GROUP_KINDS:
        return privileged_turn(task, spec)
    seen = _group_fields(index, rollouts, verdicts, spec)
    if not seen:
        return ""
    return rendered(spec, {**task_fields(task), **seen}, f"task {task.id!r}")


def _group_fields(
    index: int, rollouts: Sequence[Rollout], verdicts: Sequence[Verdict], spec: PrivilegedSpec
) -> dict[str, str]:
    """What a group says of its completion `index`, for kinds that are made of it."""
    found = {
        "sibling": sibling_of(index, rollouts, verdicts),
        "feedback": feedback(verdicts[index]) if spec.kind == "feedback" else None,
    }
    return {name: text for name, text in found.items() if text is not None}


def with_turn(messages: Messages, turn: str) -> Messages:
    """The messages with one more thing said before the assistant begins; images stay."""
    if not turn.strip():
        return messages
    *before, last = messages
    if last["role"] != "user":
        return (*messages, {"role": "user", "content": turn})
    content: Any = last["content"]
    if isinstance(content, str):
        return (*before, {**last, "content": f"{content}\n\n{turn}"})
    parts = cast("Sequence[Any]", content)
    return (*before, {**last, "content": [*parts, {"type": "text", "text": f"\n\n{turn}"}]})


def student_prompt(task: Task, tokenizer: ChatTokenizer) -> NDArray[np.int32]:
    """int32[P]: the policy's prompt, up to where the assistant begins to write."""
    return _prompt(task.id, task.messages, tokenizer)


def teacher_prompt(task: Task, tokenizer: ChatTokenizer, spec: PrivilegedSpec) -> NDArray[np.int32]:
    """int32[P']: the teacher's whole prompt; equal to the policy's for kind `none`."""
    return TeacherView(spec, tokenizer).of_task(task).ids


def _prompt(
    task_id: str, messages: Sequence[Mapping[str, Any]], tokenizer: ChatTokenizer
) -> NDArray[np.int32]:
    try:
        ids: list[int] = tokenizer.apply_chat_template(
            [_plain(message) for message in messages],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
        )
    except (TemplateError, ValueError, TypeError) as error:
        raise PromptError(
            f"task {task_id!r}: the chat template refuses its messages: {error}"
        ) from error
    return np.asarray(ids, dtype=np.int32)


def _plain(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message as chat templates of text models take it: parts that are all text, joined."""
    content: Any = message["content"]
    if not isinstance(content, str):
        parts = cast("Sequence[Mapping[str, Any]]", content)
        if all(part.get("type") == "text" for part in parts):
            content = "".join(part["text"] for part in parts)
    return {**message, "content": content}


def _pieces(fields: Mapping[str, Any]) -> list[str]:
    return [
        piece
        for value in fields.values()
        for piece in ([value] if isinstance(value, str) else value)
    ]


def _shortened(fields: Mapping[str, Any], longest: int) -> tuple[dict[str, Any], int]:
    """The fields with the middle of every piece beyond `longest` characters left out, and
    how many characters that are."""
    left_out = sum(max(0, len(piece) - longest) for piece in _pieces(fields))

    def cut(piece: str) -> str:
        if len(piece) <= longest:
            return piece
        tail = longest // 2
        gone = len(piece) - longest
        return f"{piece[: longest - tail]}\n[... {gone} characters left out ...]\n{piece[-tail:]}"

    return {
        name: cut(value) if isinstance(value, str) else [cut(piece) for piece in value]
        for name, value in fields.items()
    }, left_out


def _largest(fits: Callable[[int], bool], low: int, high: int) -> int | None:
    """The largest n in [low, high) that fits, by bisection; None when `low` does not."""
    if low >= high or not fits(low):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
