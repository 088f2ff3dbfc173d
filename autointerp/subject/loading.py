"""Load a language model and its tokenizer, from a folder or the hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch

from autointerp.latents import AutointerpError
from autointerp.subject.model import Subject
from autointerp.subject.reasons import first_line

DEMO = Path(__file__).resolve().parent.parent / "demo"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_subject(
    model: str = "demo",
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    context_length: int = 256,
    batch_tokens: int = 8192,
    bos: Literal["skip", "keep"] = "skip",
    device_map: str | dict[str, Any] | None = None,
) -> Subject:
    """Load a Hugging Face causal language model from a folder or the hub; ``demo`` is built in.

    Raises:
        AutointerpError: if there is no such model, dtype or device.
    """
    path = str(DEMO) if model == "demo" else model
    if dtype not in DTYPES:
        raise AutointerpError(f"unknown dtype {dtype!r}; choose one of {', '.join(DTYPES)}")
    place = _device(device)
    options: dict[str, Any] = {"revision": revision, "dtype": DTYPES[dtype]}
    if device_map is not None:
        options["device_map"] = device_map
    loaded, tokenizer = _from_pretrained(path, revision, options)
    loaded.eval().requires_grad_(False)
    if device_map is None:
        loaded.to(place)
    return Subject(
        loaded,
        tokenizer,
        name=model,
        revision=getattr(loaded.config, "_commit_hash", None) or revision,
        context_length=context_length,
        batch_tokens=batch_tokens,
        bos=bos,
    )


def _from_pretrained(path: str, revision: str | None, options: dict[str, Any]) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # of the weights: they take a moment, the run has its own
    load: Callable[..., Any] = AutoModelForCausalLM.from_pretrained
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
        try:
            # Pinned, so that what is captured does not depend on what happens to be installed.
            return load(path, attn_implementation="sdpa", **options), tokenizer
        except ValueError as error:
            if "attn_implementation" not in str(error) and "scaled_dot" not in str(error):
                raise
            return load(path, attn_implementation="eager", **options), tokenizer
    except (OSError, ValueError) as error:
        raise AutointerpError(f"cannot load the model {path!r}: {first_line(error)}") from error


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise AutointerpError(f"unknown device {name!r}; use auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise AutointerpError(f"device {name!r} is not available here; use device: cpu")
    return device
