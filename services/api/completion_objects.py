"""What a served model answers: OpenAI's objects, as the model's server writes them.

For the reference alone: an answer goes through as it is.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Usage(_Open):
    """Tokens of a request."""

    prompt_tokens: int = Field(description="Tokens of the prompt.")
    completion_tokens: int = Field(description="Tokens drawn, of all choices.")
    total_tokens: int = Field(description="Both.")


class ChatMessage(_Open):
    """What the model said."""

    role: str = Field(description="Always `assistant`.")
    content: str | None = Field(description="The text.")


class ChatChoice(_Open):
    """One answer."""

    index: int = Field(description="Its number, from 0.")
    message: ChatMessage = Field(description="What the model said.")
    finish_reason: str | None = Field(description="`stop`, or `length` when it was cut.")
    logprobs: dict[str, Any] | None = Field(default=None, description="Log-probabilities.")


class ChatCompletion(_Open):
    """Answers to a conversation."""

    id: str = Field(description="Identifier of this answer.")
    object: Literal["chat.completion"] = Field(description="Kind of object.")
    created: int = Field(description="Seconds since the epoch.")
    model: str = Field(description="The model that answered.")
    choices: list[ChatChoice] = Field(description="The answers.")
    usage: Usage = Field(description="Tokens used.")


class TextChoice(_Open):
    """One answer."""

    index: int = Field(description="Its number, from 0.")
    text: str = Field(description="The text.")
    finish_reason: str | None = Field(description="`stop`, or `length` when it was cut.")
    logprobs: dict[str, Any] | None = Field(default=None, description="Log-probabilities.")


class TextCompletion(_Open):
    """How a text goes on."""

    id: str = Field(description="Identifier of this answer.")
    object: Literal["text_completion"] = Field(description="Kind of object.")
    created: int = Field(description="Seconds since the epoch.")
    model: str = Field(description="The model that answered.")
    choices: list[TextChoice] = Field(description="The answers.")
    usage: Usage = Field(description="Tokens used.")
