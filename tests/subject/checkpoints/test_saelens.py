"""Every architecture and normalisation of SAELens against its definition."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from coder_files import (
    D,
    K,
    M,
    Random,
    check,
    top_k,
    write_json,
    write_saelens,
)
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import relu

from autointerp.latents import AutointerpError
from autointerp.subject.checkpoints import load_coder


def _saelens_acts(architecture: str, t: dict[str, Tensor], x: Tensor) -> Tensor:
    x = x if "transcoder" in architecture else x - t["b_dec"]
    if architecture == "gated":
        gate = (x @ t["W_enc"] + t["b_gate"]) > 0
        return gate * relu(x @ (t["W_enc"] * t["r_mag"].exp()) + t["b_mag"])
    pre = x @ t["W_enc"] + t["b_enc"]
    if architecture == "topk":
        return top_k(pre, K)
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
    t, x = write_saelens(tmp_path, architecture, k=K), Random(9)(7, D)
    acts = _saelens_acts(architecture, t, x)
    check(tmp_path, x, acts, acts @ t["W_dec"] + t["b_dec"])


@pytest.mark.parametrize(
    "architecture",
    ["transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder"],
)
def test_saelens_transcoders_never_subtract_b_dec(architecture: str, tmp_path: Path) -> None:
    t, x = write_saelens(tmp_path, architecture, d_out=5), Random(9)(7, D)
    acts = _saelens_acts(architecture, t, x)
    skip = x @ t["W_skip"].T if "W_skip" in t else 0
    check(tmp_path, x, acts, acts @ t["W_dec"] + t["b_dec"] + skip)


@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
def test_saelens_rescales_by_decoder_norm(architecture: str, tmp_path: Path) -> None:
    t = write_saelens(tmp_path, architecture, k=K, rescale_acts_by_decoder_norm=True)
    x, norms = Random(9)(7, D), t["W_dec"].norm(dim=1)
    pre = ((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]) * norms
    acts = top_k(pre, K) if architecture == "topk" else relu(pre) * (pre > 0.8)
    check(tmp_path, x, acts, (acts / norms) @ t["W_dec"] + t["b_dec"])


def test_saelens_reads_the_logarithm_of_a_training_threshold(tmp_path: Path) -> None:
    t = write_saelens(tmp_path, "jumprelu")
    threshold = t.pop("threshold")
    save_file(t | {"log_threshold": threshold.log()}, tmp_path / "sae_weights.safetensors")
    x = Random(9)(7, D)
    acts = _saelens_acts("jumprelu", t | {"threshold": threshold}, x)
    check(tmp_path, x, acts, acts @ t["W_dec"] + t["b_dec"])


@pytest.mark.parametrize("kind", ["layer_norm", "constant_norm_rescale"])
def test_saelens_normalises_before_it_subtracts(kind: str, tmp_path: Path) -> None:
    t = write_saelens(tmp_path, "standard", normalize_activations=kind)
    x = Random(9)(7, D) * 2 + 1
    mean, spread = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
    norm = x.norm(dim=-1, keepdim=True) / D**0.5
    layer = kind == "layer_norm"
    inner = (x - mean) / (spread + 1e-5) if layer else x / norm
    acts = _saelens_acts("standard", t, inner)
    out = acts @ t["W_dec"] + t["b_dec"]
    check(tmp_path, x, acts, out * spread + mean if layer else out * norm)


def test_saelens_folds_the_average_norm_or_asks_for_it(tmp_path: Path) -> None:
    name = "expected_average_only_in"
    write_saelens(tmp_path, "standard", normalize_activations=name)
    with pytest.raises(AutointerpError, match="norm_scaling_factor"):
        load_coder(tmp_path)
    t = write_saelens(tmp_path, "standard", normalize_activations=name, norm_scaling_factor=0.25)
    x = Random(9)(7, D)
    acts = _saelens_acts("standard", t, x * 0.25)
    check(tmp_path, x, acts, (acts @ t["W_dec"] + t["b_dec"]) / 0.25)


def test_saelens_finds_the_scale_of_a_checkpoint_made_in_training(tmp_path: Path) -> None:
    t = write_saelens(tmp_path, "standard", normalize_activations="expected_average_only_in")
    scaler = {"scaling_factor": 0.25, "has_whitening": False}
    write_json(tmp_path / "activation_scaler.json", scaler)
    x = Random(9)(7, D)
    acts = _saelens_acts("standard", t, x * 0.25)
    check(tmp_path, x, acts, (acts @ t["W_dec"] + t["b_dec"]) / 0.25)


@pytest.mark.parametrize(
    ("model", "site", "center"),
    [
        ("gpt2-small", "hook_resid_post", True),
        ("gpt2-small", "hook_mlp_out", True),
        ("pythia-70m", "hook_attn_out", True),
        ("gpt2-small", "attn.hook_z", False),  # before the weights that write
        ("gemma-2b", "hook_resid_post", False),  # its norms do not subtract the mean
    ],
)
def test_saelens_centres_what_centred_weights_write(
    model: str, site: str, center: bool, tmp_path: Path
) -> None:
    kwargs = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    place = {"model_name": model, "hook_name": f"blocks.1.{site}"}
    write_saelens(tmp_path, "standard", metadata=place | kwargs)
    assert load_coder(tmp_path).center is center


def test_saelens_knows_what_early_releases_leave_out(tmp_path: Path) -> None:
    flat = {"d_in": D, "d_sae": M, "hook_point": "blocks.8.hook_resid_pre"}
    for name in ("GPT2-Small-SAEs-Reformatted", "another"):
        folder = tmp_path / name / "blocks.8.hook_resid_pre"
        folder.mkdir(parents=True)
        write_saelens(folder, "standard")
        write_json(folder / "cfg.json", flat | {"model_name": "gpt2-small"})
        assert load_coder(folder).center is (name != "another")
    folder = tmp_path / "models--JoshEngels--Mistral-7B-Residual-Stream-SAEs" / "mistral_7b_layer_8"
    folder.mkdir(parents=True)
    write_saelens(folder, "standard", normalize_activations="none")
    assert load_coder(folder).normalisation == "constant_norm"


def test_saelens_claims_the_l0_that_training_measured(tmp_path: Path) -> None:
    write_saelens(tmp_path, "jumprelu", metadata={"l0": 41.5})
    assert load_coder(tmp_path).info.l0 == 41.5


def test_saelens_before_version_6_is_flat_and_subtracts_b_dec(tmp_path: Path) -> None:
    t = write_saelens(tmp_path, "standard")
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
    write_json(tmp_path / "cfg.json", flat)
    x = Random(9)(7, D) + 2
    mean = x.mean(-1, keepdim=True)
    acts = _saelens_acts("topk", t, x - mean)
    check(tmp_path, x, acts, acts @ t["W_dec"] + t["b_dec"] + mean)
    coder = load_coder(tmp_path)
    assert coder.info.hook == "transformer.h.8.input"
    assert (coder.center, coder.info.model_name) == (True, "gpt2-small")


@pytest.mark.parametrize("architecture", ["temporal", "matching_pursuit", "quantum"])
def test_saelens_refuses_what_it_cannot_encode_token_by_token(
    architecture: str, tmp_path: Path
) -> None:
    write_saelens(tmp_path, architecture)
    with pytest.raises(AutointerpError, match=architecture) as error:
        load_coder(tmp_path)
    assert "\n" not in str(error.value)


def test_saelens_trusts_the_hugging_face_hook(tmp_path: Path) -> None:
    places = {
        "model_name": "home-made",
        "hook_name": "blocks.3.hook_resid_post",
        "hf_hook_name": "model.layers.3",
    }
    write_saelens(tmp_path, "standard", metadata=places)
    assert load_coder(tmp_path).info.hook == "model.layers.3.output"
