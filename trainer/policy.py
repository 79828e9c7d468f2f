"""The policy: a causal language model run on packed sequences.

Loads a folder of safetensors and computes the log-probs of the completion tokens of a pack,
without one sequence seeing another. Knows nothing of credit, losses or optimizers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from trainer.logprobs import Distribution, likeliest, token_logprobs
from trainer.model_files import ModelError, looks_like_model
from trainer.packing import Pack

Dtype = Literal["bfloat16", "float32", "float64"]
DTYPES: dict[str, torch.dtype] = {
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}
ATTENTION = "strop_packed"

SHORT = 512
"""Longest sequence whose attention scores a CPU keeps whole."""

# Settings that change logits after the projection we compute ourselves. A model that uses
# one would be scored wrongly and silently, so it is refused.
UNSUPPORTED_LOGITS = (
    "final_logit_softcapping",
    "logits_scaling",
    "logit_scale",
    "output_multiplier",
)


@dataclass(frozen=True, slots=True)
class Varlen:
    """Arguments of one variable-length attention call: rows [sum(lengths)], cu_seqlens [S + 1]."""

    rows: Tensor
    cu_seqlens: Tensor
    longest: int


@dataclass(frozen=True, slots=True)
class Layout:
    """How attention sees a pack: which rows each sequence reads, in the device's own form.

    A GPU makes one `varlen` call. On a CPU, sequences of similar length form a block [n, L]
    of rows, padded at the end with row 0: under a causal mask no real token can see what
    lies behind it. `places` [N] finds each row in the outputs laid head to tail.
    """

    places: Tensor
    varlen: Varlen | None = None
    blocks: tuple[Tensor, ...] = ()


def layout_of(pack: Pack, device: torch.device) -> Layout:
    """The layout of `pack` on `device`."""
    starts = [0, *pack.lengths.cumsum().tolist()]
    rows, places = torch.from_numpy(pack.rows), torch.from_numpy(pack.places)
    if device.type == "cuda":
        bounds = torch.tensor(starts, dtype=torch.int32, device=device)
        varlen = Varlen(rows.to(device), bounds, int(pack.lengths.max()))
        return Layout(places=places.to(device), varlen=varlen)
    classes: dict[int, list[int]] = {}
    for s, length in enumerate(pack.lengths.tolist()):
        classes.setdefault(length.bit_length(), []).append(s)
    blocks: list[Tensor] = []
    found = torch.empty(len(rows), dtype=torch.int64)
    laid = 0
    for members in classes.values():
        width = max(int(pack.lengths[s]) for s in members)
        block = torch.zeros(len(members), width, dtype=torch.int64)
        for i, s in enumerate(members):
            length = starts[s + 1] - starts[s]
            block[i, :length] = rows[starts[s] : starts[s + 1]]
            found[starts[s] : starts[s + 1]] = torch.arange(length) + (laid + i * width)
        blocks.append(block)
        laid += block.numel()
    return Layout(places=found[places], blocks=tuple(blocks))


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    layout: Layout | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each sequence of a pack; transformers' attention interface.

    query [1, Hq, N, D], key and value [1, Hkv, N, D] -> [1, N, Hq, D].
    """
    if layout is None or softcap is not None or s_aux is not None:
        raise ModelError(
            f"{type(module).__name__} needs attention soft-capping or sinks, which packed "
            "attention does not compute: choose another model"
        )
    # [N, heads, D] each
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    if layout.varlen is not None:
        varlen = layout.varlen
        out = varlen_attn(
            q[varlen.rows],
            k[varlen.rows],
            v[varlen.rows],
            varlen.cu_seqlens,
            varlen.cu_seqlens,
            varlen.longest,
            varlen.longest,
            scale=scaling,
            window_size=(-1 if sliding_window is None else sliding_window - 1, 0),
            enable_gqa=True,
        )
        return out[layout.places][None], None
    outputs: list[Tensor] = []
    for block in layout.blocks:
        bq, bk, bv = (select(x, block).transpose(1, 2) for x in (q, k, v))  # [n, heads, L, D]
        out = _block_attention(bq, bk, bv, scaling, sliding_window)
        outputs.append(out.transpose(1, 2).flatten(0, 1))
    return select(torch.cat(outputs), layout.places)[None], None


def select(values: Tensor, index: Tensor) -> Tensor:
    """values[index] along the first dimension, with a fast and deterministic gradient.

    On a CPU that is index_select of flat rows: its gradient is summed in order, where that
    of plain indexing adds float32 atomically once several threads work on it. On a GPU it is
    the other way round.
    """
    if values.is_cuda:
        return values[index]
    flat = values.reshape(len(values), -1).index_select(0, index.flatten())
    return flat.view(*index.shape, *values.shape[1:])


def _block_attention(
    q: Tensor, k: Tensor, v: Tensor, scaling: float | None, sliding_window: int | None
) -> Tensor:
    """Causal attention on a CPU: q [n, Hq, L, D], k and v [n, Hkv, L, D] -> [n, Hq, L, D]."""
    n, heads, length, width = q.shape
    mask = torch.ones(length, length, dtype=torch.bool).tril()
    windowed = False
    if sliding_window is not None and length > sliding_window:
        mask, windowed = mask.triu(1 - sliding_window), True
    if length > SHORT:
        return F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask if windowed else None,
            is_causal=not windowed,
            scale=scaling,
            enable_gqa=True,
        )
    # Written out, short sequences take a quarter of the fused kernel's time (mostly backward).
    grouped = k.shape[1]
    scaled = q * (width**-0.5 if scaling is None else scaling)
    scores = scaled.reshape(n, grouped, -1, width) @ k.transpose(-1, -2)
    scores = scores.view(n, heads, length, length).masked_fill(~mask, -torch.inf)
    weights = scores.softmax(-1).view(n, grouped, -1, length)
    return (weights @ v).view(n, heads, length, v.shape[-1])


AttentionInterface.register(ATTENTION, packed_attention)


class Policy:
    """A causal language model in `dtype` on one device, always in evaluation mode.

    Without dropout and with one code path, the same weights and the same pack give the same
    bits, with and without gradients.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        dtype: Dtype = "bfloat16",
        device: torch.device | str | None = None,
        trainable: bool = False,
    ) -> None:
        """Load the model folder; a GPU is used when there is one and `device` is None.

        Raises ModelError when the folder is not a model, or not one that can be scored.
        """
        self.folder = Path(folder)
        self.dtype = DTYPES[dtype]
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        # A trainable policy starts from float32, so that its masters keep what bf16 would round.
        widest = torch.promote_types(self.dtype, torch.float32)
        module = _load(self.folder, widest if trainable else self.dtype)
        torch.nn.Module.to(module, self.device)
        self.module = module.eval().requires_grad_(trainable)
        self.passes = 0
        """Packs that went through the model; grows as long as it works."""
        self.head: torch.nn.Linear = module.get_output_embeddings()  # pyright: ignore[reportAttributeAccessIssue]

    def completion_logprobs(
        self, pack: Pack, temperature: float, candidates: Tensor | None = None, k: int = 0
    ) -> tuple[Tensor, Distribution]:
        """Log-probs (nats) of the pack's completion tokens, float32[C], and the distributions at
        them with their k likeliest tokens.

        With `candidates` int64[C, K], K more tokens for each place, the log-probs are
        [C, 1 + K]: the completion's own first.
        """
        targets = torch.from_numpy(pack.targets).to(self.device)
        if candidates is not None:
            targets = torch.cat([targets[:, None], candidates], dim=-1)
        return token_logprobs(
            self._hidden(pack),
            self.head.weight,
            targets,
            temperature=temperature,
            bias=self.head.bias,
            k=k,
        )

    def completion_likeliest(
        self, pack: Pack, temperature: float, k: int, vocabulary: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `completion_logprobs` without entropies, and of the k likeliest of the first
        `vocabulary` tokens at each place.

        Log-probs [C], ids int64[C, k] and their log-probs [C, k]; without gradients.
        """
        hidden, head = self._hidden(pack), self.head
        targets = torch.from_numpy(pack.targets).to(self.device)
        options: Any = {"temperature": temperature, "bias": head.bias}
        sampled, _ = token_logprobs(hidden, head.weight, targets, **options)
        return sampled, *likeliest(hidden, head.weight, k, vocabulary=vocabulary, **options)

    def _hidden(self, pack: Pack) -> Tensor:
        """[C, H]: the state that predicts each completion token."""
        device = self.device
        self.passes += 1
        hidden = self.module.base_model(
            input_ids=torch.from_numpy(pack.tokens).to(device)[None],
            position_ids=torch.from_numpy(pack.positions).to(device)[None],
            use_cache=False,
            layout=layout_of(pack, device),
        ).last_hidden_state[0]
        return select(hidden, torch.from_numpy(pack.predictors).to(device))

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Name and value of every weight, as the model folder names them; tied ones once."""
        for name, parameter in self.module.named_parameters():
            yield name, parameter.detach()

    @torch.no_grad()
    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Copy weights in place. Raises ModelError unless every weight is given, in its shape."""
        own = dict(self.module.named_parameters(remove_duplicate=False))
        missing = {name for name, _ in self.module.named_parameters()}
        for name, value in weights:
            if name not in own or own[name].shape != value.shape:
                shape = tuple(own[name].shape) if name in own else "no such weight"
                raise ModelError(
                    f"{self.folder}: cannot take weight {name} of shape {tuple(value.shape)}: "
                    f"the model has {shape}"
                )
            own[name].copy_(value)
            missing.discard(name)
        if missing:
            raise ModelError(
                f"{self.folder}: {len(missing)} weight(s) missing: {sorted(missing)[:3]}"
            )


def _load(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    problem = looks_like_model(folder)
    if problem is not None:
        raise ModelError(problem)
    transformers_logging.disable_progress_bar()
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=ATTENTION,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"{folder} cannot be loaded as a causal language model: {error}"
        ) from error
    module, report = loaded
    absent = sorted(report["missing_keys"])
    if absent:
        raise ModelError(f"{folder} lacks {len(absent)} weight(s), e.g. {absent[0]}")
    if not isinstance(module.get_output_embeddings(), torch.nn.Linear):
        raise ModelError(
            f"{folder}: {type(module).__name__} has no linear output layer to score with"
        )
    for name in UNSUPPORTED_LOGITS:
        if getattr(module.config, name, None) not in (None, 1, 1.0):
            raise ModelError(f"{folder}: {name} changes its logits in a way that is not supported")
    return module
