"""Sparse coders of the planted model, in two layouts at three hook points, and all on disk."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from planted import BOS, Truth, write_document
from planted_weights import (
    POSITIONS,
    Layout,
    build_model,
    build_tokenizer,
    neurons,
    scales,
    second_offset,
)
from safetensors.torch import save_file
from torch import Tensor
from transformers import GPT2LMHeadModel

SAELENS, TOPK, TRANSCODER = "saelens", "h.1", "h.0.mlp"  # folders of the coders
THRESHOLD = 0.25  # of a latent's scale: between a decoy's drive and the weakest true one
TOPK_WIDTH_EXTRA = 37  # latents of the TopK coder beyond the planted ones: all dead
_SIBLING = 0.4  # share of the sibling's direction in a residual coder's decoder row


def _residual_decoder(truth: Truth, directions: Tensor) -> Tensor:
    """Unit rows, each leaning towards its sibling's direction."""
    siblings = [truth.sibling(latent.index) for latent in truth.latents]
    rows = directions + _SIBLING * directions[siblings]
    return rows / rows.norm(dim=1, keepdim=True)


def topk_order(truth: Truth) -> list[int]:
    """``order[i]`` is the index in the TopK coder of planted latent i."""
    width = len(truth.latents) + TOPK_WIDTH_EXTRA
    generator = torch.Generator().manual_seed(13)
    return torch.randperm(width, generator=generator)[: len(truth.latents)].tolist()


@torch.no_grad()
def resting_state(truth: Truth, model: GPT2LMHeadModel) -> Tensor:
    """Mean of block 0's output over some text, without the latents' part of it; [width]."""
    layout = Layout.of(truth)
    words = [write_document(random.Random(f"rest/{i}")).split()[:100] for i in range(20)]
    ids = [[truth.vocabulary.index(word) for word in [BOS, *row]] for row in words]
    states = model.transformer(torch.tensor(ids), output_hidden_states=True).hidden_states[1]
    mean = states[:, 1:].flatten(0, 1).mean(0)
    mean[layout.latents : layout.latents + len(truth.latents)] = 0.0
    return mean


def write_saelens(truth: Truth, folder: Path, rest: Tensor) -> None:
    """A JumpReLU coder on block 0's output; latent i is planted latent i."""
    layout = Layout.of(truth)
    directions = layout.directions()
    n, d = directions.shape
    config = {
        "d_in": d, "d_sae": n, "dtype": "float32", "device": "cpu", "architecture": "jumprelu",
        "apply_b_dec_to_input": False, "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "model_name": "planted", "hook_name": "blocks.0.hook_resid_post",
            "hf_hook_name": "transformer.h.0", "prepend_bos": True, "context_size": POSITIONS,
            "sae_lens_version": "6.20.0",
        },
    }  # fmt: skip
    tensors = {
        "W_enc": directions.T.contiguous(),
        "W_dec": _residual_decoder(truth, directions),
        "b_enc": torch.zeros(n),
        "b_dec": rest,
        "threshold": THRESHOLD * scales(truth),
    }
    _write(folder, config, tensors, "sae_weights.safetensors")


def write_topk(truth: Truth, folder: Path, rest: Tensor) -> None:
    """A wider TopK coder on block 1's output; planted latent i is ``topk_order(truth)[i]``."""
    layout = Layout.of(truth)
    directions = layout.directions()
    n, d = directions.shape
    order = torch.tensor(topk_order(truth))
    generator = torch.Generator().manual_seed(17)
    encoder = torch.zeros(n + TOPK_WIDTH_EXTRA, d)
    decoder = torch.randn(n + TOPK_WIDTH_EXTRA, d, generator=generator)
    decoder /= decoder.norm(dim=1, keepdim=True)
    bias = torch.full((n + TOPK_WIDTH_EXTRA,), -1.0)
    encoder[order] = directions
    decoder[order] = _residual_decoder(truth, directions)
    bias[order] = -THRESHOLD * scales(truth)
    tensors = {
        "encoder.weight": encoder,
        "encoder.bias": bias,
        "W_dec": decoder,
        "b_dec": rest + second_offset(layout),
    }
    _write(folder, _sparsify_config(d, n + TOPK_WIDTH_EXTRA), tensors, "sae.safetensors")


def write_transcoder(truth: Truth, folder: Path) -> None:
    """A TopK transcoder of block 0's MLP; latent i is planted latent i."""
    layout = Layout.of(truth)
    weights, biases = neurons(layout)
    d, n = weights.shape
    tensors = {
        "encoder.weight": weights.T.contiguous(),
        "encoder.bias": biases - THRESHOLD * scales(truth),
        "W_dec": layout.directions(),
        "b_dec": torch.zeros(d),
    }
    _write(folder, _sparsify_config(d, n, transcode=True), tensors, "sae.safetensors")


def _sparsify_config(d_in: int, latents: int, transcode: bool = False) -> dict[str, object]:
    return {
        "activation": "topk", "expansion_factor": 1, "normalize_decoder": False,
        "num_latents": latents, "k": 12, "multi_topk": False, "skip_connection": False,
        "transcode": transcode, "d_in": d_in,
    }  # fmt: skip


def _write(folder: Path, config: object, tensors: dict[str, Tensor], name: str) -> None:
    folder.mkdir(parents=True)
    (folder / "cfg.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(tensors, folder / name)


@dataclass(frozen=True)
class PlantedFiles:
    """Where the planted subject lies on disk."""

    model: Path
    coders: dict[str, Path]  # by folder name: SAELENS, TOPK, TRANSCODER


def write_subject(truth: Truth, folder: Path) -> PlantedFiles:
    """Write model, tokenizer and coders below ``folder``."""
    model = build_model(truth)
    model.save_pretrained(folder / "model")
    build_tokenizer(truth).save_pretrained(folder / "model")
    coders = {name: folder / "coders" / name for name in (SAELENS, TOPK, TRANSCODER)}
    rest = resting_state(truth, model)
    write_saelens(truth, coders[SAELENS], rest)
    write_topk(truth, coders[TOPK], rest)
    write_transcoder(truth, coders[TRANSCODER])
    return PlantedFiles(folder / "model", coders)


@dataclass(frozen=True)
class Planted:
    """The planted subject: what is true, where its files are, and the text it reads."""

    truth: Truth
    files: PlantedFiles
    corpus: Path  # jsonl, column ``text``
    texts: list[str]
