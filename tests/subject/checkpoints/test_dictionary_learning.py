"""Every class of dictionary_learning against its definition."""

from __future__ import annotations

from pathlib import Path

import pytest
from coder_files import (
    D,
    K,
    Random,
    check,
    top_k,
    write_dictionary,
)
from torch import Tensor
from torch.nn.functional import relu

from autointerp.subject.checkpoints import load_coder


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
    acts = top_k(pre, K) if kind == "AutoEncoderTopK" else pre * (pre > 0.7)
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
    t, x = write_dictionary(tmp_path, kind), Random(9)(7, D)
    acts, out = _dictionary_reference(kind, t, x)
    check(tmp_path, x, acts, out)
    check(tmp_path / "ae.pt", x, acts, out)
    info = load_coder(tmp_path).info
    assert (info.hook, info.context_length) == ("gpt_neox.layers.3.output", 128)
