"""Llama Scope and its R1 variant against their definition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from coder_files import (
    D,
    M,
    Random,
    check,
    linear_tensors,
    write_json,
)
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import relu

from autointerp.latents import AutointerpError
from autointerp.subject.checkpoints import load_coder

HOOK = "blocks.15.hook_resid_post"


def _write(folder: Path, **config: Any) -> dict[str, Tensor]:
    (folder / "checkpoints").mkdir()
    t = linear_tensors(Random(4))
    save_file(t, folder / "checkpoints" / "final.safetensors")
    known = {
        "d_model": D,
        "d_sae": M,
        "act_fn": "jumprelu",
        "jump_relu_threshold": 0.6,
        "hook_point_in": HOOK,
        "hook_point_out": HOOK,
        "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": {"in": 17.0, "out": 17.0},
        "sparsity_include_decoder_norm": False,
        "apply_decoder_bias_to_pre_encoder": False,
        "use_glu_encoder": False,
    }
    write_json(folder / "hyperparams.json", known | config)
    return t


@pytest.mark.parametrize("with_norm", [False, True])
def test_llama_scope_scales_by_the_average_norm(with_norm: bool, tmp_path: Path) -> None:
    t, x = _write(tmp_path, sparsity_include_decoder_norm=with_norm), Random(9)(7, D)
    scale = D**0.5 / 17
    pre = (x * scale) @ t["encoder.weight"].T + t["encoder.bias"]
    norms = t["decoder.weight"].norm(dim=0) if with_norm else torch.ones(M)
    acts = relu(pre) * (pre * norms > 0.6)
    out = (acts @ t["decoder.weight"].T + t["decoder.bias"]) / scale
    check(tmp_path, x, acts, out)
    check(tmp_path / "checkpoints" / "final.safetensors", x, acts, out)
    assert load_coder(tmp_path).info.hook == "model.layers.15.output"


def test_llama_scope_may_subtract_the_decoders_bias(tmp_path: Path) -> None:
    t, x = _write(tmp_path, apply_decoder_bias_to_pre_encoder=True), Random(9)(7, D)
    scale = D**0.5 / 17
    inner = x * scale - t["decoder.bias"]
    pre = inner @ t["encoder.weight"].T + t["encoder.bias"]
    acts = relu(pre) * (pre > 0.6)
    check(tmp_path, x, acts, (acts @ t["decoder.weight"].T + t["decoder.bias"]) / scale)


def test_llama_scope_needs_no_scale_where_it_is_in_the_weights(tmp_path: Path) -> None:
    config = {"norm_activation": "inference", "dataset_average_activation_norm": None}
    t, x = _write(tmp_path, **config), Random(9)(7, D)
    pre = x @ t["encoder.weight"].T + t["encoder.bias"]
    acts = relu(pre) * (pre > 0.6)
    check(tmp_path, x, acts, acts @ t["decoder.weight"].T + t["decoder.bias"])


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"norm_activation": "token-wise"}, "norm_activation 'token-wise'"),
        ({"use_glu_encoder": True}, "use_glu_encoder"),
        ({"act_fn": "topk"}, "unknown act_fn 'topk'"),
        ({"dataset_average_activation_norm": None}, "dataset_average_activation_norm"),
    ],
)
def test_llama_scope_refuses_what_it_would_read_wrongly(
    config: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    _write(tmp_path, **config)
    with pytest.raises(AutointerpError, match=complaint) as error:
        load_coder(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("with_norm", [False, True])
@pytest.mark.parametrize("side", ["in", HOOK])
def test_llama_scope_r1_keeps_the_logarithm_of_its_threshold(
    side: str, with_norm: bool, tmp_path: Path
) -> None:
    r = Random(5)
    t, x, threshold = linear_tensors(r), Random(9)(7, D), r(M).exp()
    extra = {
        "log_jumprelu_threshold": threshold.log(),
        f"dataset_average_activation_norm.{side}": torch.tensor(4.0),
    }
    save_file(t | extra, tmp_path / "sae_weights.safetensors")
    config = {"d_model": D, "hook_point_in": HOOK, "hook_point_out": HOOK}
    write_json(tmp_path / "config.json", config | {"sparsity_include_decoder_norm": with_norm})
    scale = D**0.5 / 4
    pre = (x * scale) @ t["encoder.weight"].T + t["encoder.bias"]
    norms = t["decoder.weight"].norm(dim=0) if with_norm else torch.ones(M)
    acts = relu(pre) * (pre * norms > threshold)
    out = (acts @ t["decoder.weight"].T + t["decoder.bias"]) / scale
    check(tmp_path, x, acts, out)
    assert load_coder(tmp_path).info.hook == "model.layers.15.output"
