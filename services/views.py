"""Tasks as the models will see them: the tokens of the policy's prompt and of the teacher's.

In: prepared tasks and the policy's tokenizer. Out: plain data, in which spans say which
tokens are whose: of each message, of what only the teacher reads, and of the turn that the
assistant is about to begin. Knows no model and no job beyond its spec.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.config import JobSpec
from services.preparation import room
from trainer.privileged import PromptError, TeacherView, student_prompt
from trainer.records import Task
from trainer.spec import GROUP_KINDS


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens `start` to `end` (not included) come from `of`: a role, or `privileged`."""

    of: str
    start: int
    end: int


def shown(job: JobSpec, tasks: Sequence[Task], tokenizer: Any) -> list[dict[str, Any]]:
    """Each task as its policy and its teacher read it."""
    view = None
    if job.privileged is not None and job.privileged.kind not in GROUP_KINDS:
        shorten = job.tasks.overlong == "shorten"
        view = TeacherView(job.privileged, tokenizer, room=room(job), shorten=shorten)
    return [_shown(job, task, tokenizer, view) for task in tasks]


def _shown(job: JobSpec, task: Task, tokenizer: Any, view: TeacherView | None) -> dict[str, Any]:
    own = student_prompt(task, tokenizer).tolist()
    spans = message_spans(task, own, tokenizer)
    teacher, why = None, None
    if view is not None:
        theirs = view.of_task(task).ids.tolist()
        teacher = _laid(theirs, with_privileged(own, spans, theirs), tokenizer)
    elif not job.has_teacher:
        why = f"algorithm {job.algorithm.kind} has no teacher"
    elif job.privileged is None:
        why = "the teacher is a model of its own and reads the policy's prompt"
    else:
        why = f"privileged.kind {job.privileged.kind} is made of each group's rollouts"
    return {
        "id": task.id,
        "verifier": dict(task.verifier),
        "policy": _laid(own, spans, tokenizer),
        "teacher": teacher,
        "teacher_note": why,
    }


def message_spans(task: Task, ids: Sequence[int], tokenizer: Any) -> list[Span]:
    """Which tokens of the policy's prompt come from which message.

    What the chat template puts around a message counts with it. A template that cannot lay
    out the first messages alone leaves their border unknown: they are then one span.
    """
    spans: list[Span] = []
    start = 0
    for count, message in enumerate(task.messages, start=1):
        end = _laid_out(task, count, ids, tokenizer)
        if end is not None and end > start:
            spans.append(Span(str(message["role"]), start, end))
            start = end
    if start < len(ids):
        spans.append(Span("assistant", start, len(ids)))
    return spans


def _laid_out(task: Task, count: int, ids: Sequence[int], tokenizer: Any) -> int | None:
    """How many of the tokens the first `count` messages make; None when nobody can tell."""
    first = Task(task.id, task.messages[:count], task.verifier)
    try:
        # A closing turn that the template opens for the assistant is common to none of both.
        opened = student_prompt(first, tokenizer).tolist()
        laid: list[int] = tokenizer.apply_chat_template(
            [dict(message) for message in first.messages],
            add_generation_prompt=False,
            tokenize=True,
            return_dict=False,
        )
    except (PromptError, ValueError, TypeError):
        return None
    return min(_common(laid, ids), _common(opened, laid))


def with_privileged(own: Sequence[int], spans: Sequence[Span], theirs: Sequence[int]) -> list[Span]:
    """The spans of the teacher's prompt: the policy's, and the tokens that it lacks between."""
    head = _common(own, theirs)
    tail = _common(own[head:][::-1], theirs[head:][::-1])
    added = len(theirs) - len(own)
    if added <= 0:
        return list(spans)
    start = min(head, len(own) - tail)
    found: list[Span] = []
    for span in spans:
        if span.end <= start:
            found.append(span)
        elif span.start >= start:
            found.append(Span(span.of, span.start + added, span.end + added))
        else:
            found.append(Span(span.of, span.start, start))
            found.append(Span(span.of, start + added, span.end + added))
    found.append(Span("privileged", start, start + added))
    return sorted(found, key=lambda span: span.start)


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens both begin with."""
    count = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        count += 1
    return count


def _laid(ids: list[int], spans: Sequence[Span], tokenizer: Any) -> dict[str, Any]:
    return {
        "text": tokenizer.decode(ids),
        "ids": ids,
        "tokens": len(ids),
        "spans": [
            {
                "of": span.of,
                "start": span.start,
                "end": span.end,
                "text": tokenizer.decode(ids[span.start : span.end]),
            }
            for span in spans
        ],
    }
