"""The zygote where the machine is short of what it needs to fork."""

from __future__ import annotations

import os

import pytest

from verifiers.sandbox import zygote


def test_a_fork_is_waited_for_while_there_are_no_process_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusals = iter([BlockingIOError(11, "no process numbers")] * 3)

    def fork() -> int:
        for refusal in refusals:
            raise refusal
        return 42

    monkeypatch.setattr(os, "fork", fork)
    assert zygote._fork() == 42


def test_a_fork_that_is_refused_for_ever_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError(11, "no process numbers")

    monkeypatch.setattr(os, "fork", fork)
    monkeypatch.setattr(zygote, "FORK_S", 0.05)
    with pytest.raises(BlockingIOError):
        zygote._fork()
