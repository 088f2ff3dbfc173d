"""sparsify against its definition."""

from __future__ import annotations

from pathlib import Path

import torch
from coder_files import (
    D,
    K,
    M,
    Random,
    check,
    top_k,
    write_sparsify,
)
from torch.nn.functional import relu

from autointerp.subject.checkpoints import load_coder


def test_sparsify_subtracts_b_dec_unless_it_transcodes(tmp_path: Path) -> None:
    x = Random(9)(7, D)
    t = write_sparsify(tmp_path / "layers.3")
    acts = top_k((x - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"], K)
    check(tmp_path / "layers.3", x, acts, acts @ t["W_dec"] + t["b_dec"])

    t = write_sparsify(tmp_path / "layers.3.mlp", transcode=True, skip_connection=True)
    acts = top_k(x @ t["encoder.weight"].T + t["encoder.bias"], K)
    out = acts @ t["W_dec"] + t["b_dec"] + x @ t["W_skip"].T
    check(tmp_path / "layers.3.mlp", x, acts, out)
    info = load_coder(tmp_path / "layers.3.mlp").info
    assert (info.hook, info.hook_out) == ("layers.3.mlp.input", "layers.3.mlp.output")
    info = load_coder(tmp_path / "layers.3").info
    assert (info.hook, info.hook_out, info.l0) == ("layers.3.output", None, 3.0)


def test_sparsify_before_version_1_may_be_signed(tmp_path: Path) -> None:
    t = write_sparsify(tmp_path, signed=True)
    x = Random(9)(7, D)
    pre = (x - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"]
    latents = pre.abs().topk(K, dim=-1).indices
    acts = torch.zeros_like(pre).scatter_(-1, latents, pre.gather(-1, latents))
    check(tmp_path, x, acts, acts @ t["W_dec"] + t["b_dec"])


def test_sparsify_groupmax_takes_the_largest_of_each_group(tmp_path: Path) -> None:
    t = write_sparsify(tmp_path, activation="groupmax", k=4)
    x = Random(9)(7, D)
    pre = relu((x - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"])
    acts = torch.zeros_like(pre)
    for token in range(7):
        for start in range(0, M, M // 4):
            best = start + int(pre[token, start : start + M // 4].argmax())
            acts[token, best] = pre[token, best]
    check(tmp_path, x, acts, acts @ t["W_dec"] + t["b_dec"])
