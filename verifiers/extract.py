"""Where the final answer stands in a completion: one step, shared by every judge.

Reasoning goes first: whatever stands before the last `</think>` is not part of the
answer, and a completion that opens `<think>` and never closes it has no answer. Then the
spec's `extract` says where to look:

    final         the first of these that occurs: every `\\boxed{...}`; every `#### ...`
                  line that is short or last; every phrase like `the answer is ...`,
                  `Answer: ...`; else the text itself, in which each judge looks for its
                  last resort (math: the last line if it is mathematics, else the last
                  number; choice: the option named in the last line)
    boxed         every `\\boxed{...}`
    fenced_block  the last Markdown code block; the whole text when there is none
    tag           every `<tag>...</tag>`
    text          the whole text
    json_path     a value inside the JSON of the last code block or of the whole text

All answers found are returned. When they differ, the judge calls the completion
`malformed`: a completion that names several final answers has given none. Pure text in,
text out; never evaluates anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from verifiers import strict_json

MAX_ANSWERS = 64
MAX_MARKS = 256
_BLANKS = " \t\r\n"
"""All that JSON calls white space; a no-break space is part of the answer."""


class ExtractionError(ValueError):
    """No answer stands where the spec says it should."""


class _Where(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Final(_Where):
    """A box, a `####` line or a phrase like `the answer is`, in this order."""

    kind: Literal["final"] = "final"


class Boxed(_Where):
    """`\\boxed{...}`."""

    kind: Literal["boxed"] = "boxed"


class FencedBlock(_Where):
    """The last fenced Markdown block; the whole text when there is none."""

    kind: Literal["fenced_block"] = "fenced_block"


class Tag(_Where):
    """`<tag>...</tag>`."""

    kind: Literal["tag"] = "tag"
    tag: str = Field(
        default="answer",
        pattern=r"^[A-Za-z][A-Za-z0-9_-]*$",
        description="Name between the brackets.",
    )


class Text(_Where):
    """The whole text."""

    kind: Literal["text"] = "text"


class JsonPath(_Where):
    """One value in a JSON answer, by a singular JSONPath query (RFC 9535): `$.result[0]`."""

    kind: Literal["json_path"] = "json_path"
    path: str = Field(description="Names and indices from the root, like `$.result[0]['a b']`.")

    @field_validator("path")
    @classmethod
    def _singular(cls, path: str) -> str:
        _steps(path)
        return path


Extract = Annotated[
    Final | Boxed | FencedBlock | Tag | Text | JsonPath, Field(discriminator="kind")
]


@dataclass(frozen=True, slots=True)
class Extraction:
    """Every final answer that was found, in order and without repetition, and how.

    `where` is the kind that found them; under `final` it is `boxed`, `hashes`, `phrase`,
    or `unmarked` when nothing marks an answer and `answers` is the whole text.
    """

    where: Literal[
        "boxed", "hashes", "phrase", "unmarked", "fenced_block", "tag", "text", "json_path"
    ]
    answers: tuple[str, ...]


def extract(where: Extract, completion: str) -> Extraction:
    """The final answers of a completion. Raises ExtractionError when there is none."""
    text = _after_reasoning(completion)
    if not text.strip():
        raise ExtractionError("an empty completion")
    match where:
        case Final():
            return _final(text)
        case Boxed():
            return Extraction("boxed", _found(_boxed(text), "no \\boxed{...}"))
        case FencedBlock():
            return Extraction("fenced_block", (_last_block(text),))
        case Tag(tag=tag):
            inside = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
            return Extraction("tag", _found(inside, f"no <{tag}>...</{tag}>"))
        case Text():
            return Extraction("text", (text.strip(_BLANKS),))
        case JsonPath(path=path):
            return Extraction("json_path", (_at_path(text, path),))


def _after_reasoning(completion: str) -> str:
    _, closed, answer = completion.rpartition("</think>")
    if closed:
        return answer
    if completion.lstrip().startswith("<think>"):
        raise ExtractionError("the reasoning never ends: <think> is not closed")
    return completion


def _final(text: str) -> Extraction:
    if boxed := _boxed(text):
        return Extraction("boxed", _found(boxed, ""))
    if hashes := _hashes(text):
        return Extraction("hashes", _found(hashes, ""))
    if phrases := _phrases(text):
        return Extraction("phrase", _found(phrases, ""))
    return Extraction("unmarked", (text.strip(),))


def _found(candidates: list[str], otherwise: str) -> tuple[str, ...]:
    distinct: dict[str, str] = {}
    for candidate in candidates:  # as it stands: lines and blanks mean something in code and JSON
        distinct.setdefault(" ".join(candidate.split()), candidate.strip(_BLANKS))
    distinct.pop("", None)
    if not distinct:
        raise ExtractionError(otherwise or "an empty answer")
    if len(distinct) > MAX_ANSWERS:
        raise ExtractionError(f"{len(distinct)} different answers")
    return tuple(distinct.values())


_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:\{|(?P<bare>[^\s{}$\\]+))")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def _boxed(text: str) -> list[str]:
    found: list[str] = []
    position = 0
    while match := _BOX.search(text, position):
        position = match.end()
        if len(found) >= MAX_MARKS:
            raise ExtractionError(f"more than {MAX_MARKS} boxes")
        if match["bare"]:
            found.append(match["bare"])
            continue
        level, end = 1, None
        for brace in _BRACE.finditer(text, position):
            level += (brace[0] == "{") - (brace[0] == "}")
            if level == 0:
                end = brace
                break
        if end is None:
            raise ExtractionError("a \\boxed{ that never closes")
        found.append(text[position : end.start()])
        position = end.end()
    return found


_HASHES = re.compile(r"^[ \t]*####(?!#)[ \t]*(\S.*)$", re.MULTILINE)


def _hashes(text: str) -> list[str]:
    """GSM8K's mark. A Markdown heading looks alike, but has words and text below it."""
    end = len(text.rstrip())
    return [
        line[1].rstrip()
        for line in _marks(_HASHES, text)
        if line.end() >= end or not re.search(r"(?<!\\)[A-Za-z]{3,}", line[1])
    ]


def _marks(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    marks = list(islice(pattern.finditer(text), MAX_MARKS + 1))
    if len(marks) > MAX_MARKS:
        raise ExtractionError(f"more than {MAX_MARKS} places that claim to be the answer")
    return marks


_PHRASE = re.compile(
    r"\banswers?\b(?:\s+(?:choice|option))?[*_]*\s*"
    r"(?:(?:is|are)\b\s*:?|would be\b|should be\b|[:=])[*_]*\s*",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"\n|[.!?](?=\s|$|[*\"')])|(?<=[^\d])[.](?=[A-Z])")


def _phrases(text: str) -> list[str]:
    found = [
        _first_sentence(text[match.end() : match.end() + 2_000]) for match in _marks(_PHRASE, text)
    ]
    return [phrase for phrase in found if phrase.strip()]


_BLOCK = re.compile(r"```\w*\n([^`\n]+)\n```")


def _first_sentence(rest: str) -> str:
    if block := _BLOCK.match(rest):
        return block[1]
    for opening, closing in (("$$", "$$"), ("\\[", "\\]"), ("$", "$"), ("\\(", "\\)")):
        if rest.startswith(opening):
            end = rest.find(closing, len(opening))
            if end > 0:  # a formula may hold full stops and line breaks
                after = end + len(closing)
                stop = _SENTENCE_END.search(rest, after)
                return rest[: stop.start() if stop else len(rest)]
    stop = _SENTENCE_END.search(rest)
    return rest[: stop.start()] if stop else rest


_FENCE = re.compile(r"^ {0,3}(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)$")


def _last_block(text: str) -> str:
    """CommonMark fences; a block that is still open at the end counts."""
    block: list[str] | None = None
    last: str | None = None
    fence = ""
    for line in text.splitlines():
        match = _FENCE.match(line)
        if block is None:
            if match and not ("`" in match["fence"] and "`" in match["info"]):
                block, fence = [], match["fence"]
        elif match and match["fence"].startswith(fence) and not match["info"].strip():
            last, block = "\n".join(block), None
        else:
            block.append(line)
    if block is not None:
        last = "\n".join(block)
    return (text if last is None else last).strip(_BLANKS)


_STEP = re.compile(
    r"\.(?P<name>[^\W\d]\w*)|\[(?P<index>0|-?[1-9]\d{0,8})\]"
    r"|\['(?P<single>[^'\\]*)'\]|\[\"(?P<double>[^\"\\]*)\"\]"
)


def _steps(path: str) -> list[str | int]:
    if not path.startswith("$"):
        raise ValueError(f"a JSON path starts with $, not {path[:20]!r}")
    steps: list[str | int] = []
    position = 1
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None:
            raise ValueError(f"a JSON path is names and indices like $.a[0]['b c'], not {path!r}")
        if match["index"] is not None:
            steps.append(int(match["index"]))
        else:
            steps.append(next(n for n in match.group("name", "single", "double") if n is not None))
        position = match.end()
    return steps


def _at_path(text: str, path: str) -> str:
    value = strict_json.loads(_last_block(text))
    for step in _steps(path):
        try:
            value = value[step]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            raise ExtractionError(f"the answer has no value at {path}") from None
    return value if isinstance(value, str) else strict_json.dumps(value)
