"""From the names checkpoints use for a place in a model to Hugging Face module paths.

TransformerLens names places alike in every family (``blocks.3.hook_resid_post``); Hugging Face
does not. Paths end in ``.input`` or ``.output``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """Where a family of models keeps its parts: ``block`` by full path, all else below it."""

    block: str
    mlp: str = "mlp"
    attention: str = "self_attn"
    heads_projection: str = "self_attn.o_proj"  # its input is the concatenated heads
    resid_mid: str | None = "post_attention_layernorm"  # its input is the residual
    attention_out: str | None = None  # where a norm follows the attention
    mlp_out: str | None = None
    layer_norm: bool = False  # its norms subtract the mean, so that the residual's is of no matter


_LLAMA = Family("model.layers")
_GEMMA = Family(
    "model.layers",
    resid_mid="pre_feedforward_layernorm",
    attention_out="post_attention_layernorm",
    mlp_out="post_feedforward_layernorm",
)
_GPT2 = Family("transformer.h", "mlp", "attn", "attn.c_proj", "ln_2", layer_norm=True)
_NEOX = Family("gpt_neox.layers", "mlp", "attention", "attention.dense", None, layer_norm=True)

_INPUT_SITES = ("hook_resid_pre", "hook_resid_mid", "hook_mlp_in", "hook_in", "hook_z")

#: The beginning of a model's name, without its owner, and the family it tells; longest first.
FAMILIES: tuple[tuple[str, Family], ...] = (
    ("distilgpt2", _GPT2),
    ("deepseek-r1-distill", _LLAMA),
    ("gpt-oss", _LLAMA),
    ("gpt-neox", _NEOX),
    ("meta-llama", _LLAMA),
    ("tinyllama", _LLAMA),
    ("mistral", _LLAMA),
    ("gemma-2-", _GEMMA),
    ("gemma-3-", _GEMMA),
    ("gemma-", _LLAMA),  # the first generation has no norms after its parts
    ("pythia", _NEOX),
    ("llama", _LLAMA),
    ("qwen", _LLAMA),
    ("gpt2", _GPT2),
)


def family_of(model_name: str | None) -> Family | None:
    """The family a model's name tells, None if it tells none."""
    bare = (model_name or "").rsplit("/", 1)[-1].lower()
    return next((family for start, family in FAMILIES if bare.startswith(start)), None)


def module_path(hook: str | None, model_name: str | None) -> str | None:
    """The Hugging Face path of a TransformerLens hook name.

    None where the family is unknown, or where no module emits the value: ``ln2.hook_normalized``
    lies before the norm's gain.
    """
    family = family_of(model_name)
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)", hook or "")
    if family is None or match is None:
        return None
    block, site = f"{family.block}.{match[1]}", match[2]
    attention_out = family.attention_out or family.attention
    below = {
        "hook_resid_mid": family.resid_mid and f"{family.resid_mid}.input",
        # the residual before the MLP's norm, of a parallel block the one that enters it
        "hook_mlp_in": f"{family.resid_mid}.input" if family.resid_mid else "input",
        "mlp.hook_in": f"{family.mlp}.input",
        "hook_mlp_out": f"{family.mlp_out or family.mlp}.output",
        "mlp.hook_out": f"{family.mlp}.output",
        "hook_attn_out": f"{attention_out}.output",
        "attn.hook_z": f"{family.heads_projection}.input",
        "hook_resid_pre": "input",
        "hook_resid_post": "output",
    }.get(site)
    return f"{block}.{below}" if below else None


def place(hook: str | None, path: str | None, model_name: str | None) -> str | None:
    """Where to hook, from a TransformerLens name, a Hugging Face path, or both.

    A path that names its side is trusted; one that does not gets the side the name tells.
    """
    if path and path.endswith((".input", ".output")):
        return path
    known = module_path(hook, model_name)
    if known or not path:
        return known
    site = (hook or "").rsplit(".", 1)[-1]
    return f"{path}.input" if site in _INPUT_SITES else f"{path}.output"
