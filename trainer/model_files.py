"""What a model folder must hold, checked without importing torch.

Lets the job API refuse a folder that is no model before any actor starts.
"""

from __future__ import annotations

import json
from pathlib import Path

DEMO = "smollm2-135m-instruct"
"""The name of the demo model, which `trainer.demo_model` makes."""


class ModelError(ValueError):
    """A model that cannot be used; the message names it and says what is wrong."""


def looks_like_model(path: str | Path) -> str | None:
    """What is wrong with the model folder `path`, or None when it looks complete.

    A look at names and JSON only: config.json with a causal architecture, safetensors
    weights and a tokenizer. Nothing is loaded and nothing from the folder is run.
    """
    folder = Path(path)
    if not folder.is_dir():
        return f"{folder} is not a folder"
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except OSError as error:
        return f"{folder}/config.json cannot be read: {error.strerror}"
    except ValueError as error:
        return f"{folder}/config.json is not JSON: {error}"
    if not isinstance(config, dict) or not config.get("model_type"):
        return f"{folder}/config.json names no model_type"
    if not any(folder.glob("*.safetensors")):
        return f"{folder} has no *.safetensors weights (other formats are not loaded)"
    if not any(
        (folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")
    ):
        return f"{folder} has no tokenizer (tokenizer.json)"
    return None
