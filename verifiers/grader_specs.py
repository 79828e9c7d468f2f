"""What a task asks of the judges that OpenAI's graders became: `string_check`,
`text_similarity`. (`python` is in `code_spec`, `multi` in `spec`, for it holds other specs.)

Texts are templates (verifiers/templates.py): `item` is kept beside them, so that both
namespaces are filled in one go and nothing that a row says is read as a template.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from verifiers import templates

Operation = Literal["eq", "ne", "like", "ilike"]
Metric = Literal[
    "fuzzy_match", "bleu", "gleu", "meteor",
    "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l",
]  # fmt: skip


class _Templates(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    input: str = Field(max_length=100_000, description="The text that is graded; a template.")
    reference: str = Field(max_length=100_000, description="What it is held against; a template.")
    item: dict[str, Any] = Field(
        default_factory=dict[str, Any], description="What `item` stands for in the templates."
    )

    @model_validator(mode="after")
    def _renders(self) -> Self:
        for name in ("input", "reference"):
            try:
                templates.check(getattr(self, name), self.item)
            except templates.TemplateError as error:
                raise ValueError(f"{name}: {error}") from None
        if not any(templates.uses(text, "sample") for text in (self.input, self.reference)):
            raise ValueError(
                "input: neither it nor reference looks at the sample: every completion would get "
                "the same score; write {{ sample.output_text }}"
            )
        return self


class StringCheckSpec(_Templates):
    """Two texts that are equal, differ, or of which the input contains the reference."""

    kind: Literal["string_check"] = "string_check"
    operation: Operation = Field(
        description="`eq`, `ne`, `like` (contains) or `ilike` (contains, whatever the case)."
    )


class TextSimilaritySpec(_Templates):
    """How alike two texts are, by a metric of the field, from 0 to 1."""

    kind: Literal["text_similarity"] = "text_similarity"
    evaluation_metric: Metric = Field(description="What alike means.")
    pass_threshold: float = Field(
        1.0, gt=0, le=1, description="Score from which the completion counts as correct."
    )
