"""The privileged turn as text: one Jinja template a kind, and what may stand in it.

In: the fields that are known of a task or of one completion. Out: the words that only the
teacher reads. Knows nothing of chats, tokens or budgets.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from trainer.spec import GROUP_KINDS, PrivilegedSpec

TASK_FIELDS = ("answer", "trace", "documents")
GROUP_FIELDS = ("sibling", "feedback")
_JINJA_GLOBALS = {"range", "dict", "namespace", "joiner", "cycler"}

DEFAULT_TEMPLATES: Mapping[str, str] = {
    "answer": "The correct answer is: {{ answer }}",
    "trace": "A correct response is:\n{{ trace }}",
    "documents": "These documents may help:\n\n{{ documents | join('\n\n') }}",
    "sibling": "A correct response is:\n{{ sibling }}"
    "{% if answer is defined %}\n\nThe correct answer is: {{ answer }}{% endif %}",
    "feedback": "{% if sibling is defined %}A correct response is:\n{{ sibling }}\n\n{% endif %}"
    "{% if feedback is defined %}An earlier response was not correct. "
    "The verifier said of it:\n{{ feedback }}{% endif %}",
}

_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False
)


class PrivilegedError(ValueError):
    """A privileged template that cannot be used, or cannot be filled from a task."""


def check_privileged(spec: PrivilegedSpec) -> None:
    """Raise PrivilegedError unless the spec's template parses and names only known fields."""
    if spec.kind == "none":
        if spec.template is not None:
            raise PrivilegedError(
                "privileged.template is set, but privileged.kind none shows the teacher nothing"
            )
        return
    known = (*TASK_FIELDS, *GROUP_FIELDS) if spec.kind in GROUP_KINDS else TASK_FIELDS
    try:
        _compiled(_source(spec))
        names = fields_used(spec)
    except TemplateError as error:
        raise PrivilegedError(f"privileged.template is not a Jinja template: {error}") from error
    unknown = sorted(names - set(known))
    if unknown:
        raise PrivilegedError(
            f"privileged.template names {', '.join(unknown)}; with privileged.kind {spec.kind} it "
            f"may use {', '.join(known)}"
        )


def fields_used(spec: PrivilegedSpec) -> frozenset[str]:
    """The fields that the template of the spec names. Raises jinja2's TemplateError."""
    return frozenset() if spec.kind == "none" else _names(_source(spec))


def rendered(spec: PrivilegedSpec, fields: Mapping[str, Any], whose: str) -> str:
    """The privileged turn; an empty text for kind `none`.

    A field that is not in `fields` is undefined in the template. Raises PrivilegedError
    naming `whose` when the template cannot be filled.
    """
    if spec.kind == "none":
        return ""
    try:
        return _compiled(_source(spec)).render(fields)
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise PrivilegedError(
            f"{whose}: the privileged template cannot be filled: {error}"
        ) from error


def _source(spec: PrivilegedSpec) -> str:
    return spec.template if spec.template is not None else DEFAULT_TEMPLATES[spec.kind]


@cache
def _names(source: str) -> frozenset[str]:
    names = meta.find_undeclared_variables(_ENVIRONMENT.parse(source))
    return frozenset(names - _JINJA_GLOBALS)


@cache
def _compiled(source: str) -> Template:
    return _ENVIRONMENT.from_string(source)
