"""How far a vLLM engine is: a counter that grows with every iteration that brought something.

Hung into the engine as one of its loggers. A long completion brings no answer for minutes;
its iterations tell that the engine lives.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase


class Iterations(StatLoggerBase):
    """Counts one engine's iterations. It is its own factory, which vLLM calls once an engine."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, vllm_config: Any, engine_index: int = 0) -> StatLoggerBase:
        """The logger of an engine."""
        return self

    def record(
        self,
        scheduler_stats: Any,
        iteration_stats: Any,
        mm_cache_stats: Any = None,
        engine_idx: int = 0,
    ) -> None:
        """An iteration ended."""
        self.count += 1

    def log_engine_initialized(self) -> None:
        """Nothing to tell."""
