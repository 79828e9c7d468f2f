"""What a user may set about credit and loss: one model for each `algorithm.kind`.

A kind has the fields that mean something to it and no others, so that a field which would
do nothing is refused by name. Pydantic without torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from pydantic import Field, model_validator

from trainer.spec import Spec


class Synced(Spec):
    """The teacher is a copy of the policy, renewed every so many steps."""

    synced: int = Field(
        default=10, ge=1, description="Steps between two copies of the policy's weights."
    )


class Ema(Spec):
    """The teacher's weights are a moving average of the policy's."""

    ema: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="Share of the newest weights, taken in at every step: "
        "teacher = (1 - ema) * teacher + ema * policy.",
    )


TeacherWeights = Synced | Ema | Literal["live", "frozen"]
"""`live` has the policy's newest weights at every step, `frozen` those the job starts from."""

_WEIGHTS = (
    "Which weights the teacher has: `{synced: 10}`, `{ema: 0.05}`, `live` (the policy's newest) or "
    "`frozen` (those the job starts from)."
)


class External(Spec):
    """A teacher of its own: another model with the policy's vocabulary."""

    path: str = Field(
        min_length=1,
        description="Folder or Hugging Face id of the teacher; it has the policy's vocabulary.",
    )


class Mix(Spec):
    """A schedule: linear from `start` to `end`, then `end`. Equal ends are a constant."""

    start: float = Field(
        default=0.5, ge=0, le=1, description="Share of the credit that evidence moves, at step 0."
    )
    end: float = Field(
        default=0.0, ge=0, le=1, description="The share at the end of the schedule and after it."
    )
    over: int | str = Field(
        default=50,
        description="Length of the schedule: a number of steps, or a share of the run like `25%`.",
    )

    @model_validator(mode="after")
    def _length(self) -> Mix:
        share = None
        if isinstance(self.over, str):
            number = self.over.removesuffix("%")
            if self.over != number and number.replace(".", "", 1).isdigit():
                share = float(number)
        if not (
            self.over >= 1 if isinstance(self.over, int) else share is not None and 0 < share <= 100
        ):
            raise ValueError(
                f"over is {self.over!r}: give a number of steps from 1, or a share of the run "
                "from above 0% to 100%"
            )
        return self

    def at(self, step: int, steps: int | None) -> float:
        """The share at `step` (from 0) of a run of `steps`; only a length in % needs `steps`."""
        if self.start == self.end:
            return self.start
        if isinstance(self.over, str):
            if steps is None:
                raise ValueError(f"mix.over is {self.over}, but the length of the run is not known")
            length = max(1.0, float(self.over.removesuffix("%")) / 100 * steps)
        else:
            length = self.over
        return self.start + (self.end - self.start) * min(1.0, step / length)


class Objective(Spec):
    """What every algorithm has: how tokens add up, and two anchors."""

    aggregation: Literal["token_mean", "sequence_mean", "constant"] = Field(
        default="token_mean",
        description="Average the loss over all completion tokens of the batch; over each "
        "completion first and then over completions; or sum it and divide by completions times "
        "sampling.max_tokens (Dr. GRPO), which favours no length.",
    )
    importance_cap: float = Field(
        default=2.0,
        gt=0,
        description="Cap of the truncated importance weight between learner and rollout engine.",
    )
    kl: float = Field(
        default=0.0,
        ge=0,
        description="Coefficient of a KL penalty towards the weights the job starts from.",
    )


class PolicyGradient(Objective):
    """Algorithms in which the verifier decides the direction, by group-relative advantages."""

    normalize_std: bool = Field(
        default=True,
        description="Divide the group-relative advantage by the group's standard deviation.",
    )
    ratio: Literal["token", "sequence", "cispo"] = Field(
        default="token",
        description="What is clipped: each token's policy ratio (PPO), the completion's geometric "
        "mean ratio (GSPO), or each token's ratio as a constant weight of its log-prob (CISPO).",
    )
    clip: tuple[Annotated[float, Field(gt=0, lt=1)], Annotated[float, Field(gt=0)]] = Field(
        default=(0.2, 0.28),
        description="Low and high clip of the policy ratio: it may move within "
        "[1 - low, 1 + high].",
    )
    dual_clip: float | None = Field(
        default=None,
        gt=1,
        description="Cap of the policy ratio where the advantage is negative (dual clip), e.g. 3.",
    )
    refills: int = Field(
        default=0,
        ge=0,
        description="Times a step replaces its groups without contrast by other tasks (dynamic "
        "sampling); 0 keeps them.",
    )
    overlong_buffer: int = Field(
        default=0,
        ge=0,
        description="Tokens before sampling.max_tokens over which a completion's reward falls by "
        "up to 1 (soft overlong punishment); 0 for none.",
    )

    @model_validator(mode="after")
    def _clips(self) -> PolicyGradient:
        if self.ratio == "cispo" and self.dual_clip is not None:
            raise ValueError(
                "dual_clip is set, but ratio cispo bounds every ratio already: leave it out"
            )
        return self


class Distillation(Spec):
    """What every algorithm has that pulls the policy towards a teacher's distribution."""

    divergence: Literal["reverse_kl", "forward_kl"] | Annotated[float, Field(gt=0, lt=1)] = Field(
        default="reverse_kl",
        description="`reverse_kl` (policy to teacher), `forward_kl` (teacher to policy), or a number "
        "between 0 and 1: the generalised Jensen-Shannon divergence with that beta.",
    )
    top_k: int = Field(
        default=0,
        ge=0,
        le=4096,
        description="Compare distributions on the teacher's so many likeliest tokens and one bucket "
        "for all others; 0 compares the sampled token alone (reverse KL only).",
    )
    token_clip: float | None = Field(
        default=None,
        gt=0,
        description="Bound of what the teacher may do to one token: of its weight, [1 - token_clip, "
        "1 + token_clip], in rlsd; of its divergence in nats otherwise.",
    )

    @model_validator(mode="after")
    def _support(self) -> Distillation:
        if self.top_k == 0 and self.divergence != "reverse_kl":
            raise ValueError(
                f"top_k is 0, but divergence {self.divergence} needs more of the teacher's "
                "distribution than the sampled token: set top_k, e.g. 32"
            )
        return self


class Grpo(PolicyGradient):
    """GRPO: the group-relative advantage is the credit of every token (arXiv 2402.03300)."""

    kind: Literal["grpo"] = Field(default="grpo", description="Group-relative policy optimization.")


RELEASED: dict[str, dict[str, Any]] = {
    "mix": {"start": 0.5, "end": 0.0, "over": 60},
    "teacher": {"synced": 20},
}
"""What the published RLSD script sets where it departs from the paper's Algorithm 1."""


class Rlsd(PolicyGradient):
    """RLSD: the verifier sets the direction, the teacher redistributes the magnitude.

    Source: Self-Distilled RLVR (arXiv 2604.03128), Algorithm 1 and its defaults.
    """

    kind: Literal["rlsd"] = Field(
        default="rlsd", description="RL with verifiable rewards, sharpened by self-distillation."
    )
    preset: Literal["paper", "released"] = Field(
        default="paper",
        description="Defaults of `mix` and `teacher`: the paper's (50 steps, synced every 10) or "
        "the published script's (60, 20).",
    )
    evidence: Literal["privileged", "contrastive", "contrastive_marginal", "reversed"] = Field(
        default="privileged",
        description="What moves credit: the teacher's log-prob minus the policy's (RLSD), minus "
        "that under a wrong answer of the group (CEPO), minus the mean probability under several "
        "(RLCSD), or the policy's minus the teacher's, in rewarded completions (RLRT).",
    )
    mix: Mix = Field(default_factory=Mix, description="Share of the credit that evidence moves.")
    token_clip: float = Field(
        default=0.2,
        gt=0,
        description="Evidence weights stay within [1 - token_clip, 1 + token_clip].",
    )
    teacher: TeacherWeights = Field(default_factory=Synced, description=_WEIGHTS)
    negative_only: bool = Field(
        default=False,
        description="Redistribute credit only in completions with a negative advantage.",
    )
    span_tag: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z][A-Za-z0-9_-]*$",
        description="Redistribute credit only between <tag> and </tag> of this name, e.g. `think`.",
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        given = cast("dict[str, Any]", data)
        if given.get("preset") != "released":
            return given
        mix: Any = given.get("mix")
        partly = {**RELEASED["mix"], **mix} if isinstance(mix, dict) else mix
        return {**RELEASED, **given, "mix": partly or RELEASED["mix"]}

    @model_validator(mode="after")
    def _evidence(self) -> Rlsd:
        if self.evidence == "reversed" and self.negative_only:
            raise ValueError(
                "negative_only is set, but evidence reversed moves credit in rewarded "
                "completions alone: leave it out"
            )
        return self

    @property
    def contrasts(self) -> bool:
        """Whether evidence also needs the teacher's view of wrong answers."""
        return self.evidence in ("contrastive", "contrastive_marginal")


class Opd(Objective, Distillation):
    """On-policy distillation from an external teacher of the same vocabulary.

    Source: GKD (arXiv 2306.13649) with on-policy data alone; "On-Policy Distillation",
    Thinking Machines Lab, 2025, for the sampled token.
    """

    kind: Literal["opd"] = Field(default="opd", description="On-policy distillation.")
    teacher: External = Field(description="The teacher.")


class Opsd(Objective, Distillation):
    """On-policy self-distillation: the teacher is the policy with privileged context.

    Source: Self-Distilled Reasoner (arXiv 2601.18734); its teacher is frozen.
    """

    kind: Literal["opsd"] = Field(default="opsd", description="On-policy self-distillation.")
    teacher: TeacherWeights = Field(default="frozen", description=_WEIGHTS)


class GrpoOpsd(PolicyGradient, Distillation):
    """(1 - alpha) * GRPO + alpha * OPSD, the blend that RLSD is compared with."""

    kind: Literal["grpo_opsd"] = Field(default="grpo_opsd", description="GRPO and OPSD, blended.")
    alpha: float = Field(
        default=0.5, gt=0, lt=1, description="Share of self-distillation in the loss."
    )
    teacher: TeacherWeights = Field(default="frozen", description=_WEIGHTS)


class Sdpo(Objective, Distillation):
    """SDPO: the teacher is the policy shown a successful sibling or the verifier's feedback.

    Source: Reinforcement Learning via Self-Distillation (arXiv 2601.20802); its teacher is a
    moving average, and a completion without such a context is left out of the loss.
    """

    kind: Literal["sdpo"] = Field(
        default="sdpo", description="Self-distillation from siblings and feedback."
    )
    teacher: TeacherWeights = Field(default_factory=Ema, description=_WEIGHTS)


AlgorithmSpec = Annotated[Grpo | Rlsd | Opd | Opsd | GrpoOpsd | Sdpo, Field(discriminator="kind")]
SelfTaught = Rlsd | Opsd | GrpoOpsd | Sdpo
"""Algorithms whose teacher is the policy with privileged context."""
