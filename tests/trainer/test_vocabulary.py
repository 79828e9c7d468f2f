"""A teacher's vocabulary: the policy's own, or refused."""

from __future__ import annotations

import json
from pathlib import Path

from tests.tiny_model import make_tiny_model
from trainer.vocabulary import vocabulary_problem


def test_a_wider_projection_over_the_same_tokens_is_the_same_vocabulary(
    tiny: Path, tmp_path: Path
) -> None:
    wider = make_tiny_model(tmp_path, vocab_size=384, seed=1)
    assert vocabulary_problem(tiny, wider) is None


def test_a_token_of_another_number_is_named_and_counted(tiny: Path, tmp_path: Path) -> None:
    other = make_tiny_model(tmp_path, seed=1)
    file = other / "tokenizer.json"
    data = json.loads(file.read_text())
    words = data["model"]["vocab"]
    words["a"], words["b"] = words["b"], words["a"]
    file.write_text(json.dumps(data))
    problem = vocabulary_problem(tiny, other)
    assert problem is not None
    assert "differs from the policy's in 2 of 259 tokens, for example 'a' is number" in problem


def test_a_model_that_scores_fewer_tokens_than_there_are_is_refused(
    tiny: Path, tmp_path: Path
) -> None:
    other = make_tiny_model(tmp_path)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "vocab_size": 100}))
    assert "it scores 100 tokens" in str(vocabulary_problem(tiny, other))
