"""How large a model is, read from its folder without loading it.

In: config.json and the headers of the safetensors. Out: counts that memory follows from.
Needs no torch; knows nothing of jobs.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from trainer.model_files import ModelError

_MAX_HEADER = 100 * 1024 * 1024
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A decoder's dimensions. `parameters` counts every weight once; `weights_known` is False
    where no file says so and it was computed from the dimensions."""

    parameters: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    weights_known: bool = True

    @property
    def kv_values(self) -> int:
        """Numbers that attention keeps for each token: keys and values of every layer."""
        return 2 * self.layers * self.kv_heads * self.head_dim


def read_shape(folder: str | Path) -> ModelShape:
    """The shape of the model in a folder; its weights need not be there.

    Raises ModelError when config.json is missing, or lacks a dimension.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}/config.json cannot be read: {error}") from error
    text: Mapping[str, Any] = config.get("text_config") or config
    try:
        hidden, heads = int(text["hidden_size"]), int(text["num_attention_heads"])
        found = {
            "layers": int(text["num_hidden_layers"]),
            "hidden": hidden,
            "intermediate": int(text.get("intermediate_size") or 4 * hidden),
            "heads": heads,
            "kv_heads": int(text.get("num_key_value_heads") or heads),
            "head_dim": int(text.get("head_dim") or hidden // heads),
            "vocabulary": int(text["vocab_size"]),
        }
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelError(f"{folder}/config.json lacks a decoder's dimension: {error}") from error
    counted = _counted(folder, config)
    tied = bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False)))
    parameters = _computed(found, tied) if counted is None else counted
    return ModelShape(parameters=parameters, weights_known=counted is not None, **found)


def _counted(folder: Path, config: Mapping[str, Any]) -> int | None:
    """The weights that the folder's files name; None when it has none."""
    files = sorted(folder.glob("*.safetensors"))
    if files:
        return sum(_in_file(file) for file in files)
    try:
        index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
        told = index["metadata"]
        if "total_parameters" in told:
            return int(told["total_parameters"])
        return int(told["total_size"]) // _BYTES[str(config.get("dtype") or config["torch_dtype"])]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _in_file(file: Path) -> int:
    """The numbers in one safetensors file, by its header."""
    try:
        with file.open("rb") as data:
            (size,) = struct.unpack("<Q", data.read(8))
            if size > _MAX_HEADER:
                raise ValueError(f"a header of {size} bytes")
            header = cast("dict[str, Any]", json.loads(data.read(size)))
        return sum(
            math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__"
        )
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise ModelError(f"{file} is no safetensors file: {error}") from error


def _computed(found: Mapping[str, int], tied: bool) -> int:
    """The weights of a gated decoder of these dimensions."""
    hidden, wide = found["hidden"], found["heads"] * found["head_dim"]
    attention = 2 * hidden * wide + 2 * hidden * found["kv_heads"] * found["head_dim"]
    layer = attention + 3 * hidden * found["intermediate"] + 2 * hidden
    embeddings = found["vocabulary"] * hidden * (1 if tied else 2)
    return found["layers"] * layer + embeddings + hidden
