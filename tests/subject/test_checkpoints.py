"""Each layout on a synthetic checkpoint of exactly its form, against its definition.

The references below follow what the libraries' documentation and formats define, one formula a
layout, unfolded; ``test_checkpoint_libraries.py`` compares with the libraries themselves.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import relu

from autointerp.latents import AutointerpError
from autointerp.subject.checkpoints import checkpoints, load_coder
from autointerp.subject.checkpoints.hooks import module_path
from autointerp.subject.checkpoints.hub import is_hub_path, wanted

D, M, K = 8, 24, 3  # d_in, d_sae, k


class Random:
    """Deterministic tensors, made contiguous so that safetensors accepts them."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


def _top_k(pre: Tensor, k: int) -> Tensor:
    values, latents = pre.topk(k, dim=-1)
    return torch.zeros_like(pre).scatter_(-1, latents, relu(values))


def _check(path: Path, x: Tensor, acts: Tensor, out: Tensor) -> None:
    coder = load_coder(path)
    torch.testing.assert_close(coder.encode(x), acts, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(coder.decode(acts, x), out, atol=1e-4, rtol=1e-4)


# --- sparsify -----------------------------------------------------------------------------


def _sparsify(folder: Path, **config: Any) -> dict[str, Tensor]:
    r, folder = Random(0), folder
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"encoder.weight": r(M, D), "encoder.bias": r(M), "W_dec": r(M, D), "b_dec": r(D)}
    if config.get("skip_connection"):
        tensors["W_skip"] = r(D, D)
    save_file(tensors, folder / "sae.safetensors")
    cfg = {"activation": "topk", "expansion_factor": 3, "num_latents": 0, "k": K, "d_in": D}
    _write_json(folder / "cfg.json", cfg | {"transcode": False, "skip_connection": False} | config)
    return tensors


def test_sparsify_subtracts_b_dec_unless_it_transcodes(tmp_path: Path) -> None:
    x = Random(9)(7, D)
    t = _sparsify(tmp_path / "layers.3")
    acts = _top_k((x - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"], K)
    _check(tmp_path / "layers.3", x, acts, acts @ t["W_dec"] + t["b_dec"])

    t = _sparsify(tmp_path / "layers.3.mlp", transcode=True, skip_connection=True)
    acts = _top_k(x @ t["encoder.weight"].T + t["encoder.bias"], K)
    out = acts @ t["W_dec"] + t["b_dec"] + x @ t["W_skip"].T
    _check(tmp_path / "layers.3.mlp", x, acts, out)
    info = load_coder(tmp_path / "layers.3.mlp").info
    assert (info.hook, info.hook_out) == ("layers.3.mlp.input", "layers.3.mlp.output")
    info = load_coder(tmp_path / "layers.3").info
    assert (info.hook, info.hook_out, info.l0) == ("layers.3.output", None, 3.0)


def test_sparsify_groupmax_takes_the_largest_of_each_group(tmp_path: Path) -> None:
    t = _sparsify(tmp_path, activation="groupmax", k=4)
    x = Random(9)(7, D)
    pre = relu((x - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"])
    acts = torch.zeros_like(pre)
    for token in range(7):
        for start in range(0, M, M // 4):
            best = start + int(pre[token, start : start + M // 4].argmax())
            acts[token, best] = pre[token, best]
    _check(tmp_path, x, acts, acts @ t["W_dec"] + t["b_dec"])


# --- SAELens ------------------------------------------------------------------------------


def _saelens(
    folder: Path, architecture: str, d_out: int = D, metadata: Any = None, **config: Any
) -> dict[str, Tensor]:
    r = Random(1)
    tensors = {"W_enc": r(D, M), "W_dec": r(M, d_out), "b_enc": r(M) * 0.1, "b_dec": r(d_out)}
    if architecture == "gated":
        del tensors["b_enc"]
        tensors |= {"b_gate": r(M), "b_mag": r(M), "r_mag": r(M) * 0.3}
    if "jumprelu" in architecture:
        tensors["threshold"] = r(M).abs()
    if "batchtopk" in architecture:
        tensors["topk_threshold"] = torch.tensor(0.8, dtype=torch.double)
    if "skip" in architecture:
        tensors["W_skip"] = r(d_out, D)
    save_file(tensors, folder / "sae_weights.safetensors")
    cfg = {
        "d_in": D,
        "d_sae": M,
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "architecture": architecture,
        "metadata": {"sae_lens_version": "6.5.0"} | (metadata or {}),
    }
    _write_json(folder / "cfg.json", cfg | config)
    return tensors


def _saelens_acts(architecture: str, t: dict[str, Tensor], x: Tensor) -> Tensor:
    x = x if "transcoder" in architecture else x - t["b_dec"]
    if architecture == "gated":
        gate = (x @ t["W_enc"] + t["b_gate"]) > 0
        return gate * relu(x @ (t["W_enc"] * t["r_mag"].exp()) + t["b_mag"])
    pre = x @ t["W_enc"] + t["b_enc"]
    if architecture == "topk":
        return _top_k(pre, K)
    if architecture == "abstopk":
        latents = pre.abs().topk(K, dim=-1).indices
        return torch.zeros_like(pre).scatter_(-1, latents, pre.gather(-1, latents))
    if "jumprelu" in architecture:
        return relu(pre) * (pre > t["threshold"])
    if "batchtopk" in architecture:
        return relu(pre) * (pre > 0.8)
    return relu(pre)


@pytest.mark.parametrize(
    "architecture",
    ["standard", "gated", "topk", "abstopk", "jumprelu", "batchtopk", "matryoshka_batchtopk"],
)
def test_saelens_autoencoders(architecture: str, tmp_path: Path) -> None:
    t, x = _saelens(tmp_path, architecture, k=K), Random(9)(7, D)
    acts = _saelens_acts(architecture, t, x)
    _check(tmp_path, x, acts, acts @ t["W_dec"] + t["b_dec"])


@pytest.mark.parametrize(
    "architecture",
    ["transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder"],
)
def test_saelens_transcoders_never_subtract_b_dec(architecture: str, tmp_path: Path) -> None:
    t, x = _saelens(tmp_path, architecture, d_out=5, d_out_=0), Random(9)(7, D)
    config = json.loads((tmp_path / "cfg.json").read_text())
    _write_json(tmp_path / "cfg.json", config | {"d_out": 5})
    acts = _saelens_acts(architecture, t, x)
    skip = x @ t["W_skip"].T if "W_skip" in t else 0
    _check(tmp_path, x, acts, acts @ t["W_dec"] + t["b_dec"] + skip)


@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
def test_saelens_rescales_by_decoder_norm(architecture: str, tmp_path: Path) -> None:
    t = _saelens(tmp_path, architecture, k=K, rescale_acts_by_decoder_norm=True)
    x, norms = Random(9)(7, D), t["W_dec"].norm(dim=1)
    pre = ((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]) * norms
    acts = _top_k(pre, K) if architecture == "topk" else relu(pre) * (pre > 0.8)
    _check(tmp_path, x, acts, (acts / norms) @ t["W_dec"] + t["b_dec"])


def test_saelens_reads_the_logarithm_of_a_training_threshold(tmp_path: Path) -> None:
    t = _saelens(tmp_path, "jumprelu")
    threshold = t.pop("threshold")
    save_file(t | {"log_threshold": threshold.log()}, tmp_path / "sae_weights.safetensors")
    x = Random(9)(7, D)
    acts = _saelens_acts("jumprelu", t | {"threshold": threshold}, x)
    _check(tmp_path, x, acts, acts @ t["W_dec"] + t["b_dec"])


@pytest.mark.parametrize("kind", ["layer_norm", "constant_norm_rescale"])
def test_saelens_normalises_before_it_subtracts(kind: str, tmp_path: Path) -> None:
    t = _saelens(tmp_path, "standard", normalize_activations=kind)
    x = Random(9)(7, D) * 2 + 1
    mean, spread = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
    norm = x.norm(dim=-1, keepdim=True) / D**0.5
    layer = kind == "layer_norm"
    inner = (x - mean) / (spread + 1e-5) if layer else x / norm
    acts = _saelens_acts("standard", t, inner)
    out = acts @ t["W_dec"] + t["b_dec"]
    _check(tmp_path, x, acts, out * spread + mean if layer else out * norm)


def test_saelens_folds_the_average_norm_or_asks_for_it(tmp_path: Path) -> None:
    name = "expected_average_only_in"
    _saelens(tmp_path, "standard", normalize_activations=name)
    with pytest.raises(AutointerpError, match="norm_scaling_factor"):
        load_coder(tmp_path)
    t = _saelens(tmp_path, "standard", normalize_activations=name, norm_scaling_factor=0.25)
    x = Random(9)(7, D)
    acts = _saelens_acts("standard", t, x * 0.25)
    _check(tmp_path, x, acts, (acts @ t["W_dec"] + t["b_dec"]) / 0.25)


def test_saelens_before_version_6_is_flat_and_subtracts_b_dec(tmp_path: Path) -> None:
    t = _saelens(tmp_path, "standard")
    flat = {
        "d_in": D,
        "d_sae": M,
        "model_name": "gpt2-small",
        "hook_point": "blocks.8.hook_resid_pre",
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": K},
        "normalize_activations": False,
        "model_from_pretrained_kwargs": {"center_writing_weights": True},
    }
    _write_json(tmp_path / "cfg.json", flat)
    x = Random(9)(7, D) + 2
    mean = x.mean(-1, keepdim=True)
    acts = _saelens_acts("topk", t, x - mean)
    _check(tmp_path, x, acts, acts @ t["W_dec"] + t["b_dec"] + mean)
    coder = load_coder(tmp_path)
    assert coder.info.hook == "transformer.h.8.input"
    assert (coder.center, coder.info.model_name) == (True, "gpt2-small")


@pytest.mark.parametrize("architecture", ["temporal", "matching_pursuit", "quantum"])
def test_saelens_refuses_what_it_cannot_encode_token_by_token(
    architecture: str, tmp_path: Path
) -> None:
    _saelens(tmp_path, architecture)
    with pytest.raises(AutointerpError, match=architecture) as error:
        load_coder(tmp_path)
    assert "\n" not in str(error.value)


def test_saelens_trusts_the_hugging_face_hook(tmp_path: Path) -> None:
    places = {
        "model_name": "home-made",
        "hook_name": "blocks.3.hook_resid_post",
        "hf_hook_name": "model.layers.3",
    }
    _saelens(tmp_path, "standard", metadata=places)
    assert load_coder(tmp_path).info.hook == "model.layers.3.output"


# --- Gemma Scope --------------------------------------------------------------------------


def _jump(r: Random, d_out: int = D) -> dict[str, Tensor]:
    return {
        "W_enc": r(D, M),
        "W_dec": r(M, d_out),
        "b_enc": r(M),
        "b_dec": r(d_out),
        "threshold": r(M).abs(),
    }


def _jump_acts(t: dict[str, Tensor], x: Tensor) -> Tensor:
    pre = x @ t["W_enc"] + t["b_enc"]
    return relu(pre) * (pre > t["threshold"])


@pytest.mark.parametrize("lower", [False, True])
def test_gemma_scope_is_jumprelu_and_never_subtracts(lower: bool, tmp_path: Path) -> None:
    folder = tmp_path / "gemma-scope-2b-pt-res" / "layer_20" / "width_16k" / "average_l0_71"
    folder.mkdir(parents=True)
    t, x = _jump(Random(2)), Random(9)(7, D)
    arrays = {(k.lower() if lower else k): v.numpy() for k, v in t.items()}
    np.savez(folder / "params.npz", **arrays)
    acts = _jump_acts(t, x)
    _check(folder, x, acts, acts @ t["W_dec"] + t["b_dec"])
    info = load_coder(folder).info
    assert (info.hook, info.l0) == ("model.layers.20.output", 71.0)
    assert info.model_name == "google/gemma-2-2b-pt"


def test_gemma_scope_embedding_coders_read_the_scaled_embedding(tmp_path: Path) -> None:
    folder = tmp_path / "embedding" / "width_4k" / "average_l0_21"
    folder.mkdir(parents=True)
    t, x = _jump(Random(2)), Random(9)(7, D)
    np.savez(folder / "params.npz", **{k: v.numpy() for k, v in t.items()})
    acts = _jump_acts(t, x / D**0.5)
    _check(folder, x, acts, (acts @ t["W_dec"] + t["b_dec"]) * D**0.5)
    assert load_coder(folder).info.hook == "model.layers.0.input"


def test_gemma_scope_2_has_an_affine_skip_and_its_own_hook_points(tmp_path: Path) -> None:
    folder = tmp_path / "transcoder" / "layer_5_width_16k_l0_small_affine"
    folder.mkdir(parents=True)
    r = Random(3)
    t, x = _jump(r, d_out=5), Random(9)(7, D)
    skip = r(D, 5)
    stored = {k.lower(): v for k, v in t.items()} | {"affine_skip_connection": skip}
    save_file(stored, folder / "params.safetensors")
    acts = _jump_acts(t, x)
    out = acts @ t["W_dec"] + t["b_dec"] + x @ skip
    _check(folder, x, acts, out)
    inferred = load_coder(folder).info
    config = {
        "architecture": "jump_relu",
        "model_name": "google/gemma-3-270m",
        "hf_hook_point_in": "model.layers.5.pre_feedforward_layernorm.output",
        "hf_hook_point_out": "model.layers.5.post_feedforward_layernorm.output",
        "affine_connection": True,
    }
    _write_json(folder / "config.json", config)
    _check(folder, x, acts, out)
    told = load_coder(folder).info
    assert told.hook == inferred.hook == config["hf_hook_point_in"]
    assert told.hook_out == inferred.hook_out == config["hf_hook_point_out"]


@pytest.mark.parametrize("name", ["params.safetensors", "params_layer_5.safetensors"])
def test_a_cross_layer_transcoder_is_refused_plainly(name: str, tmp_path: Path) -> None:
    t = {k.lower(): v for k, v in _jump(Random(3)).items()}
    save_file(t | {"w_dec": Random(4)(M, 2, D)}, tmp_path / name)
    with pytest.raises(AutointerpError, match="cross-layer transcoder"):
        load_coder(tmp_path)


# --- Llama Scope --------------------------------------------------------------------------


def _linear(r: Random) -> dict[str, Tensor]:
    return {
        "encoder.weight": r(M, D),
        "encoder.bias": r(M),
        "decoder.weight": r(D, M),
        "decoder.bias": r(D),
    }


@pytest.mark.parametrize("with_norm", [False, True])
def test_llama_scope_scales_by_the_average_norm(with_norm: bool, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    t, x = _linear(Random(4)), Random(9)(7, D)
    save_file(t, tmp_path / "checkpoints" / "final.safetensors")
    hyper = {
        "d_model": D,
        "d_sae": M,
        "act_fn": "jumprelu",
        "jump_relu_threshold": 0.6,
        "hook_point_in": "blocks.15.hook_resid_post",
        "hook_point_out": "blocks.15.hook_resid_post",
        "dataset_average_activation_norm": {"in": 17.0, "out": 17.0},
        "sparsity_include_decoder_norm": with_norm,
    }
    _write_json(tmp_path / "hyperparams.json", hyper)
    scale = D**0.5 / 17
    pre = (x * scale) @ t["encoder.weight"].T + t["encoder.bias"]
    norms = t["decoder.weight"].norm(dim=0) if with_norm else torch.ones(M)
    acts = relu(pre) * (pre * norms > 0.6)
    out = (acts @ t["decoder.weight"].T + t["decoder.bias"]) / scale
    _check(tmp_path, x, acts, out)
    _check(tmp_path / "checkpoints" / "final.safetensors", x, acts, out)
    assert load_coder(tmp_path).info.hook == "model.layers.15.output"


def test_llama_scope_r1_keeps_the_logarithm_of_its_threshold(tmp_path: Path) -> None:
    r = Random(5)
    t, x, threshold = _linear(r), Random(9)(7, D), r(M).exp()
    extra = {
        "log_jumprelu_threshold": threshold.log(),
        "dataset_average_activation_norm.in": torch.tensor(4.0),
    }
    save_file(t | extra, tmp_path / "sae_weights.safetensors")
    _write_json(tmp_path / "config.json", {"d_model": D, "hook_point_in": "blocks.1.hook_mlp_out"})
    scale = D**0.5 / 4
    pre = (x * scale) @ t["encoder.weight"].T + t["encoder.bias"]
    acts = relu(pre) * (pre > threshold)
    out = (acts @ t["decoder.weight"].T + t["decoder.bias"]) / scale
    _check(tmp_path, x, acts, out)
    assert load_coder(tmp_path).info.hook == "model.layers.1.mlp.output"


# --- dictionary_learning ------------------------------------------------------------------


def _matrices(r: Random) -> dict[str, Tensor]:
    return {"W_enc": r(D, M), "b_enc": r(M), "W_dec": r(M, D), "b_dec": r(D)}


def _linear_bias(r: Random, bias: str) -> dict[str, Tensor]:
    t = _linear(r)
    t[bias] = t.pop("decoder.bias")
    return t


def _dictionary_tensors(kind: str) -> dict[str, Tensor]:
    r = Random(6)
    counts = {"k": torch.tensor(K, dtype=torch.int), "threshold": torch.tensor(0.7)}
    return {
        "AutoEncoder": lambda: _linear_bias(r, "bias"),
        "AutoEncoderNew": lambda: _linear(r),
        "GatedAutoEncoder": lambda: {
            "decoder_bias": r(D),
            "encoder.weight": r(M, D),
            "r_mag": r(M) * 0.3,
            "gate_bias": r(M),
            "mag_bias": r(M),
            "decoder.weight": r(D, M),
        },
        "JumpReluAutoEncoder": lambda: _matrices(r) | {"threshold": r(M).abs()},
        "AutoEncoderTopK": lambda: _linear_bias(r, "b_dec") | counts,
        "BatchTopKSAE": lambda: _linear_bias(r, "b_dec") | counts,
        "MatryoshkaBatchTopKSAE": lambda: (
            _matrices(r) | counts | {"group_sizes": torch.tensor([8, 16])}
        ),
    }[kind]()


def _dictionary(folder: Path, kind: str) -> dict[str, Tensor]:
    t = _dictionary_tensors(kind)
    torch.save(t, folder / "ae.pt")
    trainer = {"dict_class": kind, "k": K, "activation_dim": D, "dict_size": M, "layer": 3}
    trainer |= {"lm_name": "EleutherAI/pythia-70m-deduped", "submodule_name": "resid_post_layer_3"}
    _write_json(folder / "config.json", {"trainer": trainer, "buffer": {"ctx_len": 128}})
    return t


def _dictionary_reference(kind: str, t: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Activations and reconstruction, each class as its own source defines it."""
    if "W_enc" in t:
        shift = 0 if kind == "JumpReluAutoEncoder" else t["b_dec"]
        acts = relu((x - shift) @ t["W_enc"] + t["b_enc"])
        acts = acts * (acts > t["threshold"])
        return acts, acts @ t["W_dec"] + t["b_dec"]
    weight, norms = t["encoder.weight"].T, t["decoder.weight"].norm(dim=0)
    if kind == "GatedAutoEncoder":
        inner = (x - t["decoder_bias"]) @ weight
        acts = ((inner + t["gate_bias"]) > 0) * relu(inner * t["r_mag"].exp() + t["mag_bias"])
        return acts, acts @ t["decoder.weight"].T + t["decoder_bias"]
    if kind == "AutoEncoderNew":
        acts = relu(x @ weight + t["encoder.bias"])
        return acts * norms, acts @ t["decoder.weight"].T + t["decoder.bias"]
    bias = t["bias" if kind == "AutoEncoder" else "b_dec"]
    pre = relu((x - bias) @ weight + t["encoder.bias"])
    if kind == "AutoEncoder":
        return pre * norms, pre @ t["decoder.weight"].T + bias
    acts = _top_k(pre, K) if kind == "AutoEncoderTopK" else pre * (pre > 0.7)
    return acts, acts @ t["decoder.weight"].T + bias


DICTIONARIES = (
    "AutoEncoder",
    "AutoEncoderNew",
    "GatedAutoEncoder",
    "JumpReluAutoEncoder",
    "AutoEncoderTopK",
    "BatchTopKSAE",
    "MatryoshkaBatchTopKSAE",
)


@pytest.mark.parametrize("kind", DICTIONARIES)
def test_dictionary_learning(kind: str, tmp_path: Path) -> None:
    t, x = _dictionary(tmp_path, kind), Random(9)(7, D)
    acts, out = _dictionary_reference(kind, t, x)
    _check(tmp_path, x, acts, out)
    _check(tmp_path / "ae.pt", x, acts, out)
    info = load_coder(tmp_path).info
    assert (info.hook, info.context_length) == ("gpt_neox.layers.3.output", 128)


# --- single torch files -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["TopK", "TopK of Identity", "ReLU"])
def test_openai(kind: str, tmp_path: Path) -> None:
    r, x = Random(7), Random(9)(7, D) * 2 + 1
    t = {"encoder.weight": r(M, D), "pre_bias": r(D), "latent_bias": r(M)}
    t["decoder.weight"] = r(D, M)
    state: dict[str, Any] = {"activation": kind.split()[0]}
    if kind != "ReLU":
        after = "Identity" if kind.endswith("Identity") else "ReLU"
        state["activation_state_dict"] = {"k": 20, "postact_fn": after}
    folder = tmp_path / "resid_delta_mlp" / "autoencoders"
    folder.mkdir(parents=True)
    torch.save(t | state, folder / "8.pt")
    mean, spread = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
    inner = x if kind == "ReLU" else (x - mean) / (spread + 1e-5)
    pre = (inner - t["pre_bias"]) @ t["encoder.weight"].T + t["latent_bias"]
    if kind == "ReLU":
        acts = relu(pre)
    else:
        values, latents = pre.topk(20)
        values = values if kind.endswith("Identity") else relu(values)
        acts = torch.zeros_like(pre).scatter_(-1, latents, values)
    out = acts @ t["decoder.weight"].T + t["pre_bias"]
    _check(folder / "8.pt", x, acts, out if kind == "ReLU" else out * spread + mean)
    assert load_coder(folder / "8.pt").info.hook == "transformer.h.8.mlp.output"


def test_qwen_scope_has_its_k_in_the_repositorys_name(tmp_path: Path) -> None:
    r, x = Random(8), Random(9)(7, D)
    t = {"W_enc": r(M, D), "W_dec": r(D, M), "b_enc": r(M), "b_dec": r(D)}
    torch.save(t, tmp_path / "layer4.sae.pt")
    with pytest.raises(AutointerpError, match="repository's name"):
        load_coder(tmp_path / "layer4.sae.pt")
    folder = tmp_path / "SAE-Res-Qwen3-1.7B-Base-W32K-L0_3"
    folder.mkdir()
    for layer in (4, 5):
        torch.save(t, folder / f"layer{layer}.sae.pt")
    acts = _top_k(x @ t["W_enc"].T + t["b_enc"], K)
    _check(folder / "layer4.sae.pt", x, acts, acts @ t["W_dec"].T + t["b_dec"])
    info = load_coder(folder / "layer4.sae.pt").info
    assert (info.hook, info.model_name) == ("model.layers.4.output", "Qwen/Qwen3-1.7B-Base")
    with pytest.raises(AutointerpError, match="several coders"):
        load_coder(folder)


def test_goodfire(tmp_path: Path) -> None:
    r, x = Random(10), Random(9)(7, D)
    t = {f"{k.replace('.', '_linear.')}": v for k, v in _linear(r).items()}
    path = tmp_path / "Llama-3.1-8B-Instruct-SAE-l19.pth"
    torch.save(t, path)
    acts = relu(x @ t["encoder_linear.weight"].T + t["encoder_linear.bias"])
    out = acts @ t["decoder_linear.weight"].T + t["decoder_linear.bias"]
    _check(path, x, acts, out)
    assert load_coder(path).info.hook == "model.layers.19.output"


# --- circuit-tracer -----------------------------------------------------------------------


@pytest.mark.parametrize("full", [False, True])
def test_circuit_tracer(full: bool, tmp_path: Path) -> None:
    r, x = Random(11), Random(9)(7, D)
    t = {"W_enc": r(M, D), "W_dec": r(M, D), "b_enc": r(M), "b_dec": r(D)}
    if full:
        t |= {"activation_function.threshold": r(M).abs(), "W_skip": r(D, D)}
    save_file(t, tmp_path / "layer_2.safetensors")
    (tmp_path / "config.yaml").write_text(
        "model_name: meta-llama/Llama-3.2-1B\nmodel_kind: transcoder_set\n"
        "feature_input_hook: hook_resid_mid\nfeature_output_hook: hook_mlp_out\n"
    )
    pre = x @ t["W_enc"].T + t["b_enc"]
    acts = relu(pre) * (pre > t.get("activation_function.threshold", torch.zeros(M)))
    skip = x @ t["W_skip"].T if full else 0
    _check(tmp_path / "layer_2.safetensors", x, acts, acts @ t["W_dec"] + t["b_dec"] + skip)
    info = load_coder(tmp_path).info
    assert info.hook == "model.layers.2.post_attention_layernorm.input"
    assert info.hook_out == "model.layers.2.mlp.output"


# --- what is common to all ----------------------------------------------------------------


def test_the_content_hash_is_that_of_the_weights_file(tmp_path: Path) -> None:
    _sparsify(tmp_path)
    content = (tmp_path / "sae.safetensors").read_bytes()
    assert load_coder(tmp_path).info.sha256 == hashlib.sha256(content).hexdigest()


def test_device_and_dtype_are_those_asked_for(tmp_path: Path) -> None:
    _sparsify(tmp_path)
    coder = load_coder(tmp_path, dtype=torch.bfloat16)
    assert coder.W_enc.dtype == coder.W_dec.dtype == torch.bfloat16


class Executed:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (pytest.fail, ("a pickle was executed",))


def _missing_tensor(folder: Path) -> None:
    t = _sparsify(folder)
    del t["b_dec"]
    save_file(t, folder / "sae.safetensors")


def _wrong_shape(folder: Path) -> None:
    t = _sparsify(folder)
    save_file(t | {"encoder.bias": torch.zeros(M + 1)}, folder / "sae.safetensors")


def _cut_short(folder: Path) -> None:
    _sparsify(folder)
    content = (folder / "sae.safetensors").read_bytes()
    (folder / "sae.safetensors").write_bytes(content[: len(content) // 2])


def _bad_json(folder: Path) -> None:
    _sparsify(folder)
    (folder / "cfg.json").write_text("{")


def _executable(folder: Path) -> None:
    (folder / "ae.pt").write_bytes(pickle.dumps({"encoder.weight": Executed()}))
    trainer = {"dict_class": "AutoEncoder"}
    _write_json(folder / "config.json", {"trainer": trainer})


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing tensor": (_missing_tensor, "no tensor 'b_dec'"),
    "wrong shape": (_wrong_shape, r"'encoder.bias' has shape \[25\], expected \[24\]"),
    "cut short": (_cut_short, "not a readable safetensors file"),
    "bad JSON": (_bad_json, "cannot be read as JSON"),
    "k too large": (lambda f: _sparsify(f, k=M + 1), "more than the coder's 24 latents"),
    "k not a number": (lambda f: _sparsify(f, k="many"), "must be a whole number"),
    "no k": (lambda f: _sparsify(f, k=None), "must be a whole number"),
    "unknown activation": (lambda f: _sparsify(f, activation="softmax"), "softmax"),
    "uneven groups": (lambda f: _sparsify(f, activation="groupmax", k=7), "7 groups"),
    "wrong d_in": (lambda f: _sparsify(f, d_in=D + 1), "encoder.weight"),
    "code in a pickle": (_executable, "cannot be loaded as plain tensors"),
    "unknown dict_class": (
        lambda f: (_dictionary(f, "AutoEncoder"), _write_json(f / "config.json", {})),
        "dict_class",
    ),
    "an empty folder": (lambda f: None, "not a sparse coder of a known layout"),
    "other files": (lambda f: (f / "notes.txt").write_text("x"), "notes.txt"),
    "unfolded whitening": (
        lambda f: _saelens(f, "standard", normalize_activations="covariance_whitening"),
        "covariance_whitening",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_checkpoint_is_one_clear_line(name: str, tmp_path: Path) -> None:
    breaks, expected = BROKEN[name]
    breaks(tmp_path)
    with pytest.raises(AutointerpError, match=expected) as error:
        load_coder(tmp_path)
    assert "\n" not in str(error.value)


def test_a_path_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", "nothing", "./a/b", "owner/repository/layers.3"):
        with pytest.raises(AutointerpError, match="there is no") as error:
            load_coder(path)
        assert "\n" not in str(error.value)


def test_only_the_coders_own_files_are_fetched() -> None:
    names = [
        "config.yaml",
        "layer_1.safetensors",
        "layer_2.safetensors",
        "a/cfg.json",
        "a/sae.safetensors",
        "ab/sae.safetensors",
        "L1/hyperparams.json",
        "L1/checkpoints/final.safetensors",
    ]
    assert wanted(names, "a") == ["config.yaml", "a/cfg.json", "a/sae.safetensors"]
    assert wanted(names, "layer_2.safetensors") == ["config.yaml", "layer_2.safetensors"]
    assert wanted(names, "L1") == ["config.yaml", *names[-2:]]


def test_what_looks_like_a_place_on_the_hub() -> None:
    for path in ("EleutherAI/sae-x", "google/gemma-scope-2b-pt-res/layer_1/width_16k"):
        assert is_hub_path(path)
    for path in ("layers.1", "./a/b", "/a/b", "../a/b", ""):
        assert not is_hub_path(path)


def test_hook_names_by_family() -> None:
    assert module_path("blocks.2.attn.hook_z", "gpt2") == "transformer.h.2.attn.c_proj.input"
    gemma = "google/gemma-2-2b"
    normed = "model.layers.1.post_feedforward_layernorm.output"
    assert module_path("blocks.1.hook_mlp_out", gemma) == normed
    assert module_path("blocks.1.ln2.hook_normalized", gemma) is None
    assert module_path("blocks.1.hook_resid_mid", "EleutherAI/pythia-70m") is None
    assert module_path("blocks.1.hook_resid_post", "a-new-model") is None


def test_every_built_in_layout_is_registered() -> None:
    assert {
        "circuit_tracer",
        "dictionary_learning",
        "gemma_scope",
        "gemma_scope_2",
        "goodfire",
        "llama_scope",
        "llama_scope_r1",
        "openai",
        "qwen_scope",
        "saelens",
        "sparsify",
    } <= set(checkpoints.names())
