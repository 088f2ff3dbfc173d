"""circuit-tracer transcoders against their definition."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from coder_files import (
    D,
    M,
    Random,
    check,
)
from safetensors.torch import save_file
from torch.nn.functional import relu

from autointerp.subject.checkpoints import load_coder


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
    check(tmp_path / "layer_2.safetensors", x, acts, acts @ t["W_dec"] + t["b_dec"] + skip)
    info = load_coder(tmp_path).info
    assert info.hook == "model.layers.2.post_attention_layernorm.input"
    assert info.hook_out == "model.layers.2.mlp.output"
