"""The teacher on a tiny random model: whom it scores, under which prompt, with which weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.teacher import MARGINAL_ANSWERS, Teacher, TeacherOptions
from tests.ray_cluster import local_ray
from tests.tiny_model import make_tiny_model
from trainer.algorithm_spec import (
    AlgorithmSpec,
    External,
    Opd,
    Opsd,
    Rlsd,
    Sdpo,
)
from trainer.evidence import Evidence, shortened_share, taught_batch
from trainer.learner import Learner
from trainer.privileged import TeacherView, student_prompt
from trainer.records import Privileged, Rollout, Task
from trainer.rewards import judged_group
from trainer.spec import OptimizerSpec, PrivilegedSpec
from verifiers.verdict import Verdict

MAX_TOKENS = 12
RIGHT = Verdict(1.0, "correct", {"extracted": "4"})
WRONG = Verdict(0.0, "wrong", {"extracted": "5"})
OTHER = Verdict(0.0, "wrong", {"extracted": "6"})
FAULT = Verdict(None, "infra_error")
TASKS = [
    Task(
        f"t{n}",
        ({"role": "user", "content": f"{n} + 2?"},),
        {"kind": "math", "answer": "4"},
        Privileged("4", f"{n} and 2 make 4"),
    )
    for n in range(3)
]
VERDICTS = [[RIGHT, WRONG, OTHER, FAULT], [RIGHT] * 4, [WRONG, WRONG, RIGHT, RIGHT]]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with local_ray(cpus=1):
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def rollouts(model: Path) -> list[list[Rollout]]:
    rng = np.random.default_rng(0)
    tokenizer: Any = AutoTokenizer.from_pretrained(model)

    def rollout(task: Task) -> Rollout:
        ids = rng.integers(40, 100, rng.integers(3, 9)).astype(np.int32)
        prompt = student_prompt(task, tokenizer)
        logprobs = np.full(len(ids), -4, np.float32)
        return Rollout(prompt, ids, logprobs, tokenizer.decode(ids), 0, "stop")

    return [[rollout(task) for _ in range(4)] for task in TASKS]


def teacher(
    model: Path,
    algorithm: AlgorithmSpec,
    view: str | None,
    path: Path | None = None,
    *,
    shorten: bool = False,
) -> Teacher:
    return Teacher(
        TeacherOptions(
            model_path=str(path or model),
            policy_path=str(model),
            dtype="float32",
            temperature=0.7,
            microbatch_tokens=128,
            algorithm=algorithm,
            max_tokens=MAX_TOKENS,
            privileged=None if view is None else PrivilegedSpec.model_validate({"kind": view}),
            room=500,
            shorten=shorten,
        )
    )


def score(one: Teacher, rollouts: Sequence[Sequence[Rollout]]) -> list[list[Evidence | None]]:
    evidence, _ = one.score(
        TASKS, [ray.put(tuple(r)) for r in rollouts], [ray.put(tuple(v)) for v in VERDICTS]
    )
    return evidence


def known(evidence: Sequence[Sequence[Evidence | None]]) -> list[list[bool]]:
    return [[said is not None for said in row] for row in evidence]


def table(path: Path, prompt: np.ndarray, completion: np.ndarray) -> torch.Tensor:
    """Log-probs [T, V] of a completion under a prompt, by transformers."""
    policy: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    ids = torch.from_numpy(np.concatenate([prompt, completion]).astype(np.int64))
    with torch.no_grad():
        logits = policy(ids[None]).logits[0, len(prompt) - 1 : -1]
    return (logits / 0.7).log_softmax(-1)


def direct(path: Path, prompt: np.ndarray, completion: np.ndarray) -> np.ndarray:
    column = torch.from_numpy(completion.astype(np.int64))[:, None]
    return table(path, prompt, completion).gather(-1, column)[:, 0].numpy()


def test_only_completions_that_can_move_the_policy_are_scored(
    model: Path, rollouts: list[list[Rollout]]
) -> None:
    evidence = score(teacher(model, Rlsd(), "answer"), rollouts)
    assert known(evidence) == [[True, True, True, False], [False] * 4, [True] * 4]
    everyone = score(teacher(model, Opsd(), "answer"), rollouts)
    assert known(everyone) == [[True, True, True, False], [True] * 4, [True] * 4]


def test_an_empty_hint_gives_the_learners_own_numbers_bit_for_bit(
    model: Path, rollouts: list[list[Rollout]]
) -> None:
    spec = Rlsd()
    evidence = score(teacher(model, spec, "none"), rollouts)
    groups = [
        judged_group(task, r, v, spec, MAX_TOKENS)
        for task, r, v in zip(TASKS, rollouts, VERDICTS, strict=True)
    ]
    # The fault of ours is left out of the batch.
    said = [x for row, v in zip(evidence, VERDICTS, strict=True) for x, y in zip(row, v, strict=True) if y is not FAULT]  # fmt: skip
    batch = taught_batch(groups, said)
    learner = Learner(
        model,
        algorithm=spec,
        optimizer=OptimizerSpec(microbatch_tokens=128),
        dtype="float32",
        temperature=0.7,
    )
    metrics, streams = learner.learn_with_streams(batch, 0)
    asked = np.repeat(batch.advantages != 0, batch.completion_lengths)
    assert np.array_equal(
        np.asarray(batch.teacher_logprobs)[asked], streams.student_logprobs[asked]
    )
    assert metrics["evidence_rewarded"] == metrics["evidence_blamed"] == 0
    assert metrics["weight_mean"] == 1


def test_a_teacher_of_its_own_reads_the_policys_prompt_and_gives_its_likeliest_tokens(
    model: Path, rollouts: list[list[Rollout]], tmp_path: Path
) -> None:
    other = make_tiny_model(tmp_path, vocab_size=384, seed=3)
    spec = Opd(teacher=External(path="other"), divergence="forward_kl", top_k=6)
    said = score(teacher(model, spec, None, other), rollouts)[0][1]
    assert said is not None
    assert said.top_ids is not None
    rollout = rollouts[0][1]
    whole = table(other, rollout.prompt_ids, rollout.completion_ids)
    assert np.allclose(
        said.logprobs, direct(other, rollout.prompt_ids, rollout.completion_ids), atol=1e-4
    )
    tokens = len(AutoTokenizer.from_pretrained(model))
    best = whole[:, :tokens].topk(6)
    assert np.array_equal(said.top_ids, best.indices.numpy())
    assert np.allclose(np.asarray(said.top_logprobs), best.values.numpy(), atol=1e-4)
    assert said.top_ids.max() < tokens, "what pads the projection is no token"


def wrong_prompts(model: Path, group: int, index: int, rollouts: list[list[Rollout]]) -> list[Any]:
    """What the teacher reads when the answer of each other wrong completion passes for right."""
    view = TeacherView(PrivilegedSpec(kind="answer"), AutoTokenizer.from_pretrained(model))
    task = TASKS[group]
    return [
        view.of_task(Task(task.id, task.messages, task.verifier, Privileged(said))).ids
        for place, verdict in enumerate(VERDICTS[group])
        if verdict.status == "wrong" and place != index
        for said in [str(verdict.evidence["extracted"])]
    ]


def test_contrastive_evidence_is_scored_under_another_completions_wrong_answer(
    model: Path, rollouts: list[list[Rollout]]
) -> None:
    evidence = score(teacher(model, Rlsd(evidence="contrastive"), "answer"), rollouts)
    assert known(evidence) == [[True, True, True, False], [False] * 4, [True] * 4]
    for group, index in ((0, 0), (0, 1), (0, 2), (2, 1)):
        said, completion = evidence[group][index], rollouts[group][index].completion_ids
        assert said is not None
        first = wrong_prompts(model, group, index, rollouts)[0]
        assert np.allclose(np.asarray(said.contrast), direct(model, first, completion), atol=1e-4)
        assert not np.allclose(np.asarray(said.contrast), said.logprobs, atol=1e-3)


def test_the_marginal_contrast_is_the_mean_probability_under_wrong_answers(
    model: Path, rollouts: list[list[Rollout]]
) -> None:
    said = score(teacher(model, Rlsd(evidence="contrastive_marginal"), "answer"), rollouts)[0][0]
    assert said is not None
    completion = rollouts[0][0].completion_ids
    prompts = wrong_prompts(model, 0, 0, rollouts)
    assert 1 < len(prompts) <= MARGINAL_ANSWERS
    views = np.stack([direct(model, prompt, completion) for prompt in prompts])
    assert np.allclose(np.asarray(said.contrast), np.log(np.exp(views).mean(0)), atol=1e-4)


def test_a_sibling_teaches_everyone_but_itself(model: Path, rollouts: list[list[Rollout]]) -> None:
    evidence = score(teacher(model, Sdpo(), "sibling"), rollouts)
    assert known(evidence) == [[False, True, True, False], [True] * 4, [True] * 4]
    # With feedback the failed ones have a context of their own; the lone right one has none.
    with_feedback = score(teacher(model, Sdpo(), "feedback"), rollouts)
    assert known(with_feedback)[0] == [False, True, True, False]
    lengths = [[said.prompt_length for said in row if said] for row in (evidence[0], with_feedback[0])]  # fmt: skip
    assert all(longer > shorter for shorter, longer in zip(*lengths, strict=True))


def test_a_context_that_was_shortened_is_counted(
    model: Path, rollouts: list[list[Rollout]]
) -> None:
    long = replace(TASKS[0], privileged=Privileged("4", "x" * 600))
    groups = [
        judged_group(task, rollouts[n], VERDICTS[n], Opsd(), MAX_TOKENS)
        for n, task in enumerate((long, TASKS[1]))
    ]
    (first, second), _ = teacher(model, Opsd(), "trace", shorten=True).evidence(groups)
    assert [said is not None and said.left_out > 0 for said in first] == [True] * 3 + [False]
    assert [said is not None and said.left_out == 0 for said in second] == [True] * 4
    assert shortened_share([*first, *second]) == 3 / 7
