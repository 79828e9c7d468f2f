"""What the rollout tier costs: its tokens/s over raw vLLM's, same prompts, same flags.

Both engines live through the whole run and take turns, so that a slow moment of the machine
hits both. Raw vLLM is `LLM.generate` on all prompts at once, in a process of its own with
the same threads and the same OpenMP runtime; ours is the actor as a job starts it, asked group
by group through Ray, log-probs and records included. Prints one line a round and the ratio.
The number type is what `model.dtype: auto` takes on this machine; `--dtype` takes another.

    python benchmarks/overhead.py [--rounds 5] [--groups 32] [--group-size 8] [--max-tokens 96]
                                  [--dtype bfloat16]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# Beside this file lies verifiers.py, which would hide the package of that name.
sys.path[0] = str(Path(__file__).resolve().parents[1])
# Ray reads these when it is imported; by default it would run its workers at nice 15.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_worker_niceness": "0"}
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

import numpy as np
import ray

from services.precision import cpu_has_bfloat16
from services.rollout import EngineOptions, RolloutEngine, SamplingOptions, engine_arguments
from services.threads import compute_env
from services.weights import Manifest, checksum, pack
from trainer.demo_model import resolve_model

MODEL = "smollm2-135m-instruct"
TEMPERATURE = 0.6


def options(arguments: argparse.Namespace) -> EngineOptions:
    """How both sides build their engine."""
    return EngineOptions(
        model_path=str(resolve_model(MODEL)),
        dtype=arguments.dtype,
        max_length=512,
        max_sequences=arguments.groups * arguments.group_size,
        seed=0,
        kv_cache_gib=1.0,
        gpu_memory_utilization=0.9,
    )


def prompts(model: str, groups: int) -> list[list[int]]:
    """Short arithmetic questions in the model's chat format, as token ids."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    questions = [f"What is {17 + 3 * n} plus {11 + 5 * n}?" for n in range(groups)]
    return [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False
        )
        for question in questions
    ]


def raw(arguments: argparse.Namespace) -> None:
    """The peer: one round for each line on standard input, its figures on standard output."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt

    built = options(arguments)
    engine = LLM(**engine_arguments(built), disable_log_stats=True)
    params = SamplingParams(
        n=arguments.group_size,
        max_tokens=arguments.max_tokens,
        temperature=TEMPERATURE,
        logprobs=0,
        detokenize=False,
    )
    inputs = [
        TokensPrompt(prompt_token_ids=ids) for ids in prompts(built.model_path, arguments.groups)
    ]
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        outputs = engine.generate(inputs, params, use_tqdm=False)
        seconds = time.perf_counter() - started
        tokens = sum(len(sample.token_ids) for output in outputs for sample in output.outputs)
        print(json.dumps([tokens, seconds]), flush=True)


def publication(model: str, dtype: str) -> tuple[Manifest, list[Any]]:
    """The model's own weights as policy version 0: an engine samples only what it has proven."""
    import torch
    from transformers import AutoModelForCausalLM

    policy: Any = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype))
    canary = tuple(range(100, 132))
    with torch.no_grad():
        logits = policy(torch.tensor([canary])).logits[0, :-1].float()
    logprobs = logits.log_softmax(-1).gather(-1, torch.tensor(canary[1:])[:, None])[:, 0].tolist()
    packed = list(pack(policy.named_parameters()))
    entries = tuple(entry for placed, _ in packed for entry in placed)
    buckets = [bucket for _, bucket in packed]
    checksums = tuple(checksum(bucket) for bucket in buckets)
    return Manifest(0, entries, checksums, canary, tuple(logprobs)), buckets


class Raw:
    """The peer's process."""

    def __init__(self, arguments: argparse.Namespace, env: dict[str, str]) -> None:
        command = [sys.executable, __file__, "--raw", *sys.argv[1:]]
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer("ready")

    def _answer(self, wanted: str | None = None) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == wanted or (wanted is None and line.startswith("[")):
                return line
        raise SystemExit(f"raw vLLM ended with status {self._process.wait(60)}")

    def round(self) -> float:
        """Tokens per second of one round."""
        assert self._process.stdin is not None
        print("round", file=self._process.stdin, flush=True)
        tokens, seconds = json.loads(self._answer())
        return tokens / seconds

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


async def compare(arguments: argparse.Namespace) -> list[tuple[float, float]]:
    """(raw, ours) tokens per second of each round, after one warm-up round of both."""
    env = compute_env(arguments.threads)
    peer = Raw(arguments, env)
    with tempfile.TemporaryDirectory(prefix="strop-bench-") as folder:
        ray.init(
            address="local", num_cpus=arguments.threads, include_dashboard=False, _temp_dir=folder,
            log_to_driver=False, configure_logging=False,
        )  # fmt: skip
        try:
            built = options(arguments)
            actor = ray.remote(RolloutEngine)
            engine: Any = actor.options(runtime_env={"env_vars": env}).remote(built)
            await engine.start.remote()
            await engine.load_weights.remote(*publication(built.model_path, built.dtype))
            inputs = [
                np.asarray(ids, np.int32) for ids in prompts(built.model_path, arguments.groups)
            ]
            sampling = SamplingOptions(max_tokens=arguments.max_tokens, temperature=TEMPERATURE)

            async def ours() -> float:
                started = time.perf_counter()
                bound = engine.generate.options(num_returns=2)
                answers = [bound.remote(ids, sampling, arguments.group_size) for ids in inputs]
                small = await asyncio.gather(*(summary for _, summary in answers))
                return sum(tokens for _, tokens in small) / (time.perf_counter() - started)

            rounds: list[tuple[float, float]] = []
            for number in range(-1, arguments.rounds):
                pair = (peer.round(), await ours())
                if number >= 0:
                    rounds.append(pair)
                    print(f"round {number + 1}: raw {pair[0]:7.1f} tok/s, ours {pair[1]:7.1f} tok/s, "
                          f"ratio {pair[1] / pair[0]:.3f}", flush=True)  # fmt: skip
            await engine.stop.remote()
            return rounds
        finally:
            ray.shutdown()
            peer.close()


def main() -> None:
    """Parse the arguments, run the rounds, print the median ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--groups", type=int, default=32)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    types = ("bfloat16", "float32")
    own = types[0] if cpu_has_bfloat16() else types[1]
    parser.add_argument("--dtype", choices=types, default=own)
    parser.add_argument("--raw", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.raw:
        raw(arguments)
        return
    rounds = asyncio.run(compare(arguments))
    ratios = sorted(ours / peer for peer, ours in rounds)
    print(
        f"median of {len(rounds)} rounds: raw {statistics.median(p for p, _ in rounds):.1f} tok/s, "
        f"ours {statistics.median(o for _, o in rounds):.1f} tok/s, "
        f"ratio {statistics.median(ratios):.3f} (min {ratios[0]:.3f}, max {ratios[-1]:.3f})"
    )


if __name__ == "__main__":
    main()
