"""What may be asked of a served model: OpenAI's chat and text completions, and what vLLM adds.

A field that is not here is refused by its name, never ignored: a client that asks for tools or
for audio learns that it gets none.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

MAX_CHOICES = 64
_INLINE = "data:image/"

Token = Annotated[int, Field(ge=0, lt=2**31)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class TextPart(_Strict):
    """A piece of text."""

    type: Literal["text"] = Field(description="The kind of the part.")
    text: str = Field(description="The text.")


class ImageUrl(_Strict):
    """An image, inline."""

    url: str = Field(
        pattern=f"^{_INLINE}",
        description="A `data:image/...;base64,` URL: the service fetches nothing.",
    )
    detail: Literal["auto", "low", "high"] = Field(
        default="auto", description="As in OpenAI's API; the model decides."
    )


class ImagePart(_Strict):
    """An image."""

    type: Literal["image_url"] = Field(description="The kind of the part.")
    image_url: ImageUrl = Field(description="The image.")


class Message(_Strict):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant"] = Field(description="Who speaks.")
    content: str | Annotated[list[TextPart | ImagePart], Field(min_length=1)] = Field(
        description="What was said: a text, or parts of text and images."
    )
    name: str | None = Field(default=None, max_length=64, description="The speaker's name.")


class JsonSchema(_Strict):
    """A schema that the answer must fit."""

    name: str = Field(min_length=1, max_length=64, description="A name for it.")
    schema_: dict[str, Any] = Field(alias="schema", description="The JSON Schema.")
    strict: bool | None = Field(default=None, description="Always strict, whatever it says.")
    description: str | None = Field(default=None, description="For people.")


class TextFormat(_Strict):
    """Any text."""

    type: Literal["text"] = Field(description="The kind of format.")


class JsonFormat(_Strict):
    """Any JSON object."""

    type: Literal["json_object"] = Field(description="The kind of format.")


class JsonSchemaFormat(_Strict):
    """JSON that fits a schema."""

    type: Literal["json_schema"] = Field(description="The kind of format.")
    json_schema: JsonSchema = Field(description="The schema.")


class StreamOptions(_Strict):
    """How to stream."""

    include_usage: bool = Field(
        default=False, description="End with a chunk that counts the tokens."
    )


class _Sampling(_Strict):
    """What chat and text have in common. What is left open is the model's own default."""

    model: str = Field(
        min_length=1,
        max_length=512,
        description="A model of `/v1/models`.",
        examples=["smollm2-135m-instruct"],
    )
    n: int = Field(default=1, ge=1, le=MAX_CHOICES, description="Answers to draw.")
    temperature: float | None = Field(
        default=None, ge=0, le=2, description="Randomness; 0 always takes the likeliest token."
    )
    top_p: float | None = Field(
        default=None, gt=0, le=1, description="Draw from the likeliest tokens of this mass."
    )
    top_k: int | None = Field(
        default=None, ge=1, le=1_000_000, description="Draw from so many likeliest tokens."
    )
    min_p: float | None = Field(
        default=None, ge=0, le=1, description="Drop tokens below this share of the likeliest."
    )
    presence_penalty: float | None = Field(
        default=None, ge=-2, le=2, description="Against tokens that occurred."
    )
    frequency_penalty: float | None = Field(
        default=None, ge=-2, le=2, description="Against tokens by how often they occurred."
    )
    repetition_penalty: float | None = Field(
        default=None, gt=0, le=2, description="Factor on tokens that occurred, the prompt's too."
    )
    seed: int | None = Field(
        default=None, ge=0, lt=2**63, description="The same seed draws the same answer."
    )
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = Field(
        default=None, description="Texts at which the answer ends."
    )
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = Field(
        default=None, max_length=1024, description="Added to the logits, by token id."
    )
    response_format: (
        Annotated[TextFormat | JsonFormat | JsonSchemaFormat, Field(discriminator="type")] | None
    ) = Field(default=None, description="The form the answer is held to while it is drawn.")
    stream: bool = Field(default=False, description="Answer piece by piece, as SSE.")
    stream_options: StreamOptions | None = Field(
        default=None, description="How to stream; only with `stream`."
    )
    user: str | None = Field(
        default=None, max_length=512, description="Taken from OpenAI's clients and not used."
    )

    @field_validator("logit_bias")
    @classmethod
    def _token_ids(cls, bias: dict[str, float] | None) -> dict[str, float] | None:
        for token in bias or {}:
            if not (token.isascii() and token.isdecimal() and len(token) < 10):
                raise ValueError(f"{token!r} is not the id of a token")
        return bias

    def for_the_engine(self) -> dict[str, Any]:
        """The request as the model's server takes it. Streams carry their usage in every chunk:
        what a client that went away has used is counted too."""
        body = self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"user"})
        if self.stream:
            body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
        return body

    @property
    def wants_usage(self) -> bool:
        """Whether the client asked for the chunk that counts the tokens."""
        return self.stream_options is not None and self.stream_options.include_usage


class ChatRequest(_Sampling):
    """A conversation to go on with."""

    messages: list[Message] = Field(
        min_length=1,
        max_length=4096,
        description="The conversation so far.",
        examples=[[{"role": "user", "content": "What is 3 times 4?"}]],
    )
    max_completion_tokens: int | None = Field(
        default=None, ge=1, lt=2**31, description="Most tokens of an answer."
    )
    max_tokens: int | None = Field(
        default=None, ge=1, lt=2**31, description="The older name of `max_completion_tokens`."
    )
    logprobs: bool | None = Field(default=None, description="Give each token's log-probability.")
    top_logprobs: int | None = Field(
        default=None, ge=0, le=20, description="And those of so many others; with `logprobs`."
    )


class CompletionRequest(_Sampling):
    """A text to go on with."""

    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=256)]
        | Annotated[list[Token], Field(min_length=1)]
        | Annotated[list[Annotated[list[Token], Field(min_length=1)]], Field(max_length=256)]
    ) = Field(description="A text, or token ids, or a list of either.", examples=["3 times 4 is"])
    max_tokens: int = Field(default=16, ge=1, lt=2**31, description="Most tokens of an answer.")
    logprobs: int | None = Field(
        default=None,
        ge=0,
        le=20,
        description="Give log-probabilities of so many tokens at a place.",
    )
    echo: bool = Field(default=False, description="Repeat the prompt before the answer.")
