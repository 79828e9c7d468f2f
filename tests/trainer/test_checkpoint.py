"""Checkpoints: whole or not there, and a resumed run is the uninterrupted one."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.tiny_model import make_tiny_model
from tests.trainer.conftest import random_batch
from trainer.adamw import LearningError
from trainer.algorithm_spec import Mix, Rlsd
from trainer.checkpoint import Checkpoint, CheckpointError, Found, newest, verify
from trainer.learner import Learner
from trainer.policy import Dtype
from trainer.spec import OptimizerSpec


def learner(folder: Path, dtype: Dtype = "bfloat16") -> Learner:
    return Learner(
        folder,
        algorithm=Rlsd(mix=Mix(over=4)),
        optimizer=OptimizerSpec(learning_rate=1e-3, updates_per_batch=2, microbatch_tokens=64),
        dtype=dtype,
    )


def learn(one: Learner, steps: range) -> None:
    for step in steps:
        one.learn(random_batch(step), step)


@pytest.fixture
def saved(tiny: Path, tmp_path: Path) -> Checkpoint:
    one = learner(tiny)
    learn(one, range(1))
    checkpoint = one.save(tmp_path / "c", step=1, cursor={"epoch": 2, "next": [5, 3]}, keep=2)
    assert checkpoint is not None
    return checkpoint


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_two_steps_and_two_more_are_four_bit_for_bit(
    tiny: Path, tmp_path: Path, dtype: Dtype
) -> None:
    whole = learner(tiny, dtype)
    learn(whole, range(4))

    first = learner(tiny, dtype)
    learn(first, range(2))
    torch.manual_seed(7)
    first.save(tmp_path, step=2, cursor={}, keep=1)
    drawn = torch.rand(3)
    found = newest(tmp_path).checkpoint
    assert found is not None
    second = learner(found.model, dtype)
    second.resume(found)
    assert torch.equal(torch.rand(3), drawn)
    learn(second, range(found.step, 4))

    for a, b in (
        (whole.masters.weights, second.masters.weights),
        (dict(whole.weights()), dict(second.weights())),
    ):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_cursor_comes_back_as_it_was_given(saved: Checkpoint) -> None:
    assert newest(saved.folder.parent).checkpoint == saved
    assert saved.step == 1
    assert saved.cursor == {"epoch": 2, "next": [5, 3]}


def test_the_model_inside_is_an_ordinary_model_folder(tiny: Path, saved: Checkpoint) -> None:
    model = AutoModelForCausalLM.from_pretrained(saved.model)
    assert model.dtype == torch.bfloat16
    tokenizer, original = (AutoTokenizer.from_pretrained(f) for f in (saved.model, tiny))
    chat = [{"role": "user", "content": "hi"}]
    assert tokenizer.apply_chat_template(chat) == original.apply_chat_template(chat)
    one = learner(saved.model)
    one.resume(saved)
    theirs = dict(model.named_parameters())
    assert all(torch.equal(weight, theirs[name]) for name, weight in one.weights())


def test_nothing_in_a_checkpoint_is_a_pickle(saved: Checkpoint) -> None:
    suffixes = {path.suffix for path in saved.folder.rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".safetensors", ".jinja"}


def test_only_the_newest_are_kept(tiny: Path, tmp_path: Path) -> None:
    one = learner(tiny)
    for step in (1, 2, 10, 11):
        one.save(tmp_path, step=step, cursor={}, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000011"]


def test_a_draft_left_by_a_crash_is_not_a_checkpoint_and_is_cleared_away(
    saved: Checkpoint,
) -> None:
    root = saved.folder.parent
    draft = root / ".step-00000009.123.part"
    draft.mkdir()
    (draft / "state.json").write_text("{")
    assert newest(root).checkpoint == saved
    assert not draft.exists()


def test_without_checkpoints_there_is_no_newest(tmp_path: Path) -> None:
    assert newest(tmp_path) == newest(tmp_path / "absent") == Found(None)


def test_a_damaged_checkpoint_is_named_set_aside_and_the_one_before_it_is_taken(
    tiny: Path, tmp_path: Path
) -> None:
    one = learner(tiny)
    saves = [one.save(tmp_path, step=step, cursor={}, keep=3) for step in (1, 2, 3)]
    (tmp_path / "step-00000002" / "manifest.json").unlink()
    weights = tmp_path / "step-00000003" / "model" / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - 1)
    found = newest(tmp_path)
    assert found.checkpoint == saves[0]
    told = [(str(weights), "not what was written"), ("step-00000002/manifest.json", "damaged")]
    assert len(found.damaged) == 2
    for message, (file, what) in zip(found.damaged, told, strict=True):
        assert file in message
        assert what in message
    assert newest(tmp_path) == Found(saves[0]), "what was set aside is not looked at again"
    one.save(tmp_path, step=4, cursor={}, keep=2)
    kept = sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("step-"))
    assert kept == ["step-00000001", "step-00000004"], "a damaged one is none of those kept"


def test_a_full_disk_keeps_the_last_good_checkpoint(tiny: Path, tmp_path: Path) -> None:
    one = learner(tiny)
    first = one.save(tmp_path, step=1, cursor={}, keep=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(CheckpointError, match=r"step-00000002 cannot be written: .*too large"):
            one.save(tmp_path, step=2, cursor={}, keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert newest(tmp_path) == Found(first)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


@pytest.mark.parametrize("name", ["model/model.safetensors", "state.safetensors", "state.json"])
def test_a_flipped_byte_is_found_by_name(saved: Checkpoint, name: str) -> None:
    path = saved.folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=name):
        saved.load()


def test_a_missing_file_is_found_by_name(saved: Checkpoint) -> None:
    verify(saved.folder)
    (saved.folder / "state.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"state\.safetensors is missing"):
        saved.load()


def test_a_failed_write_leaves_nothing_behind(tiny: Path, tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    with pytest.raises(CheckpointError, match="cannot be written"):
        learner(tiny).save(blocker, step=1, cursor={}, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_state_of_another_model_is_refused(saved: Checkpoint, tmp_path: Path) -> None:
    other = learner(make_tiny_model(tmp_path / "other", tie_word_embeddings=False))
    with pytest.raises(LearningError, match=r"lm_head\.weight"):
        other.resume(saved)
