"""Talk to a model folder in the terminal: the quickest look at what a job trained.

One model on this machine's CPU or GPU, one conversation, tokens as they come.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from services.precision import cpu_has_bfloat16


class Chat:
    """A conversation with one model."""

    def __init__(self, model: str, *, temperature: float = 0.6, max_tokens: int = 256) -> None:
        """Load a folder, or whatever `trainer.demo_model.resolve_model` knows. Raises ModelError."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        from trainer.demo_model import resolve_model

        logging.disable_progress_bar()
        folder = resolve_model(model)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = "auto" if device == "cuda" or cpu_has_bfloat16() else torch.float32
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=False
        )
        self._model: Any = loaded.to(device)
        self._options = {"temperature": temperature, "max_new_tokens": max_tokens}
        self._messages: list[dict[str, str]] = []

    def ask(self, text: str) -> Iterator[str]:
        """The model's answer, piece by piece; both turns are remembered."""
        from transformers import TextIteratorStreamer

        self._messages.append({"role": "user", "content": text})
        inputs = self._tokenizer.apply_chat_template(
            self._messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        ).to(self._model.device)
        streamer = TextIteratorStreamer(
            self._tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=120
        )
        options = {**inputs, **self._options, "do_sample": True, "streamer": streamer}
        worker = threading.Thread(target=self._model.generate, kwargs=options, daemon=True)
        worker.start()
        answer = ""
        for piece in streamer:
            answer += piece
            yield piece
        worker.join()
        self._messages.append({"role": "assistant", "content": answer})
