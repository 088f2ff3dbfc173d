"""Readers against the libraries that define the layouts, each where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autointerp.subject.checkpoints import load_coder

D, M, K, OUT = 8, 24, 3, 5
X = torch.randn(9, D, generator=torch.Generator().manual_seed(0)) * 2 + 0.5


def library(name: str) -> Any:
    """A module of a library that defines a layout; skips the test where it is not installed."""
    return pytest.importorskip(
        name, reason=f"{name} is not installed: pip install -e '.[reference]'"
    )


def _randomise(module: torch.nn.Module) -> None:
    """Weights, biases and thresholds away from their initial zeros."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
            if name == "threshold":
                parameter.abs_()


def _compare(path: Path, acts: Tensor, out: Tensor) -> None:
    coder = load_coder(path)
    torch.testing.assert_close(coder.encode(X), acts.detach(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(coder.decode(acts.detach(), X), out.detach(), atol=1e-4, rtol=1e-4)


def _saelens_config(architecture: str, **more: Any) -> Any:
    saes = library("sae_lens.saes")
    names = {
        "standard": "StandardSAEConfig",
        "topk": "TopKSAEConfig",
        "jumprelu": "JumpReLUSAEConfig",
        "gated": "GatedSAEConfig",
        "transcoder": "TranscoderConfig",
        "skip_transcoder": "SkipTranscoderConfig",
        "jumprelu_transcoder": "JumpReLUTranscoderConfig",
        "jumprelu_skip_transcoder": "JumpReLUSkipTranscoderConfig",
    }
    if architecture == "abstopk":
        abstopk = library("sae_lens.saes.abstopk_sae")
        return abstopk.AbsTopKSAEConfig(d_in=D, d_sae=M, k=K, **more)
    if architecture == "topk":
        more["k"] = K
    if "transcoder" in architecture:
        transcoder = library("sae_lens.saes.transcoder")
        build = getattr(transcoder, names[architecture])
        return build(d_in=D, d_sae=M, d_out=OUT, apply_b_dec_to_input=False, **more)
    return getattr(saes, names[architecture])(d_in=D, d_sae=M, **more)


CASES: list[tuple[str, dict[str, Any]]] = [
    *[
        (name, {"normalize_activations": kind})
        for name in ("standard", "topk", "abstopk", "jumprelu", "gated")
        for kind in ("none", "layer_norm", "constant_norm_rescale")
    ],
    ("standard", {"apply_b_dec_to_input": False}),
    ("topk", {"rescale_acts_by_decoder_norm": True}),
    ("abstopk", {"rescale_acts_by_decoder_norm": True}),
    *[
        (name, {})
        for name in (
            "transcoder",
            "skip_transcoder",
            "jumprelu_transcoder",
            "jumprelu_skip_transcoder",
        )
    ],
]


@pytest.mark.parametrize(("architecture", "options"), CASES)
def test_saelens(architecture: str, options: dict[str, Any], tmp_path: Path) -> None:
    registry = library("sae_lens.registry")
    config = _saelens_config(architecture, **options)
    sae = registry.get_sae_class(architecture)[0](config)
    _randomise(sae)
    sae.save_model(tmp_path)
    acts = sae.encode(X)
    acts = acts.to_dense() if acts.is_sparse else acts
    _compare(tmp_path, acts, sae(X))


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("name", ["batchtopk", "matryoshka_batchtopk"])
def test_saelens_batchtopk_training_checkpoint_is_what_it_saves_for_inference(
    name: str, rescale: bool, tmp_path: Path
) -> None:
    registry = library("sae_lens.registry")
    sae_lens = library("sae_lens")
    trained, config = registry.get_sae_training_class(name)
    more = {"matryoshka_widths": [8, M]} if name.startswith("matryoshka") else {}
    sae = trained(config(d_in=D, d_sae=M, k=K, rescale_acts_by_decoder_norm=rescale, **more))
    _randomise(sae)
    sae.topk_threshold = torch.tensor(0.4, dtype=torch.double)
    for folder in ("training", "inference"):
        (tmp_path / folder).mkdir()
    sae.save_model(tmp_path / "training")
    sae.save_inference_model(tmp_path / "inference")
    inference = sae_lens.SAE.load_from_disk(tmp_path / "inference")
    for folder in ("training", "inference"):
        _compare(tmp_path / folder, inference.encode(X), inference(X))


@pytest.mark.parametrize(
    "name",
    ["standard", "topk", "abstopk", "jumprelu", "gated", "batchtopk", "matryoshka_batchtopk"],
)
def test_saelens_checkpoint_made_in_training_is_what_it_folds_at_the_end(
    name: str, tmp_path: Path
) -> None:
    registry = library("sae_lens.registry")
    sae_lens = library("sae_lens")
    scaling = library("sae_lens.training.activation_scaler")
    trained, config = registry.get_sae_training_class(name)
    more: dict[str, Any] = {"k": K} if name.endswith("topk") else {}
    more |= {"matryoshka_widths": [8, M]} if name.startswith("matryoshka") else {}
    kind = "expected_average_only_in"
    sae = trained(config(d_in=D, d_sae=M, normalize_activations=kind, **more))
    _randomise(sae)
    if "batchtopk" in name:
        sae.topk_threshold = torch.tensor(0.4, dtype=torch.double)
    sae.save_model(tmp_path / "training")
    scaling.ActivationScaler(0.3).save(str(tmp_path / "training" / "activation_scaler.json"))
    sae.fold_activation_norm_scaling_factor(0.3)
    sae.save_inference_model(tmp_path / "inference")
    inference = sae_lens.SAE.load_from_disk(tmp_path / "inference")
    acts = inference.encode(X)
    acts = acts.to_dense() if acts.is_sparse else acts
    for folder in ("training", "inference"):
        _compare(tmp_path / folder, acts, inference(X))


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "topk"},
        {"activation": "groupmax"},
        {"activation": "topk", "transcode": True, "skip_connection": True},
    ],
)
def test_sparsify(options: dict[str, Any], tmp_path: Path) -> None:
    sparsify = library("sparsify")
    config = sparsify.SparseCoderConfig(num_latents=M, k=K, **options)
    coder = sparsify.SparseCoder(D, config)
    _randomise(coder)
    coder.save_to_disk(tmp_path / "layers.3")
    values, latents, _ = coder.encode(X)
    acts = torch.zeros(len(X), M).scatter_(-1, latents, values.detach())
    _compare(tmp_path / "layers.3", acts, coder(X).sae_out)


@pytest.mark.parametrize(
    "kind",
    [
        "AutoEncoder",
        "AutoEncoderNew",
        "GatedAutoEncoder",
        "JumpReluAutoEncoder",
        "AutoEncoderTopK",
        "BatchTopKSAE",
        "MatryoshkaBatchTopKSAE",
    ],
)
def test_dictionary_learning(kind: str, tmp_path: Path) -> None:
    library("dictionary_learning")
    from dictionary_learning import dictionary, utils
    from dictionary_learning.trainers import batch_top_k, matryoshka_batch_top_k, top_k

    more: dict[str, Any] = {} if hasattr(dictionary, kind) else {"k": K}
    if kind.startswith("Matryoshka"):
        more["group_sizes"] = [8, M - 8]
    homes = (dictionary, top_k, batch_top_k, matryoshka_batch_top_k)
    home = next(h for h in homes if hasattr(h, kind))
    coder = getattr(home, kind)(D, M, **more)
    _randomise(coder)
    if "k" in more:
        coder.threshold.fill_(0.3)
    torch.save(coder.state_dict(), tmp_path / "ae.pt")
    trainer = {"dict_class": kind, "k": K, "activation_dim": D, "dict_size": M}
    (tmp_path / "config.json").write_text(json.dumps({"trainer": trainer}))
    loaded, _ = utils.load_dictionary(str(tmp_path), device="cpu")
    if kind == "AutoEncoderNew":  # reports other activations than it decodes
        out, acts = loaded(X, output_features=True)
    else:
        acts = loaded.encode(X)
        out = loaded.decode(acts)
    _compare(tmp_path, acts, out)
