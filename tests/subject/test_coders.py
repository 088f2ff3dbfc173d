"""Every activation function and normalisation against a loop over tokens and latents."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autointerp.latents import AutointerpError
from autointerp.subject import coders
from autointerp.subject.activation_functions import (
    Activation,
    Gated,
    GroupMax,
    SparseActivations,
    Threshold,
    TopK,
    largest,
    relu,
)
from autointerp.subject.coders import CoderInfo, SparseCoder

D_IN, D_SAE = 6, 12


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _coder(activation: Activation, **options: object) -> SparseCoder:
    defaults: dict[str, object] = {"subtract_b_dec": True}
    return SparseCoder.assemble(
        _random(D_IN, D_SAE, seed=1),
        _random(D_SAE, D_IN, seed=2),
        _random(D_SAE, seed=3) * 0.1,
        _random(D_IN, seed=4) * 0.1,
        activation,
        **(defaults | options),  # type: ignore[arg-type]
    )


def _loop_top_k(row: list[float], k: int) -> list[float]:
    kept = sorted(range(len(row)), key=lambda i: -row[i])[:k]
    return [max(v, 0.0) if i in kept else 0.0 for i, v in enumerate(row)]


def _loop_magnitude(row: list[float], k: int) -> list[float]:
    kept = sorted(range(len(row)), key=lambda i: -abs(row[i]))[:k]
    return [v if i in kept else 0.0 for i, v in enumerate(row)]


def _loop_groups(row: list[float], k: int) -> list[float]:
    size, out = len(row) // k, [0.0] * len(row)
    for start in range(0, len(row), size):
        best = max(range(start, start + size), key=lambda i: row[i])
        out[best] = max(row[best], 0.0)
    return out


def _loop_gate(row: list[float], scale: list[float], shift: list[float]) -> list[float]:
    return [
        max(v * a + b, 0.0) if v > 0 else 0.0 for v, a, b in zip(row, scale, shift, strict=True)
    ]


THRESHOLD = _random(D_SAE, seed=5)  # some negative
SCALE, SHIFT = _random(D_SAE, seed=6).exp(), _random(D_SAE, seed=7)
ACTIVATIONS: dict[str, tuple[Activation, Callable[[list[float]], list[float]]]] = {
    "relu": (relu(), lambda row: [max(v, 0.0) for v in row]),
    "topk": (TopK(3), lambda row: _loop_top_k(row, 3)),
    "topk of all": (TopK(D_SAE), lambda row: [max(v, 0.0) for v in row]),
    "abstopk": (TopK(3, by="magnitude", rectify=False), lambda row: _loop_magnitude(row, 3)),
    "groupmax": (GroupMax(4), lambda row: _loop_groups(row, 4)),
    "jumprelu": (
        Threshold(THRESHOLD),
        lambda row: [
            max(v, 0.0) if v > t else 0.0 for v, t in zip(row, THRESHOLD.tolist(), strict=True)
        ],
    ),
    "batchtopk": (Threshold(torch.tensor(0.7)), lambda row: [v if v > 0.7 else 0.0 for v in row]),
    "gated": (
        Gated(SCALE, SHIFT),
        lambda row: _loop_gate(row, SCALE.tolist(), SHIFT.tolist()),
    ),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_dense_encoding_agrees_with_a_loop(name: str) -> None:
    activation, loop = ACTIVATIONS[name]
    x = _random(20, D_IN, seed=8)
    coder = _coder(activation)
    pre = (x - coder.b_dec) @ coder.W_enc + _random(D_SAE, seed=3) * 0.1
    expected = torch.tensor([loop(row) for row in pre.tolist()])
    torch.testing.assert_close(coder.encode(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("block", [1, 5 * D_SAE, 2**20])
def test_sparse_encoding_is_the_dense_one(
    name: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coders, "BLOCK_ELEMENTS", block)
    coder, x = _coder(ACTIVATIONS[name][0]), _random(23, D_IN, seed=9)
    rows, latents, values = coder.encode_sparse(x)
    assert (rows.dtype, latents.dtype, values.dtype) == (torch.int64, torch.int32, torch.float32)
    assert torch.equal(rows, rows.sort().values)
    assert bool((values != 0).all())
    dense = torch.zeros(23, D_SAE)
    dense[rows, latents.long()] = values
    torch.testing.assert_close(dense, coder.encode(x), atol=1e-6, rtol=1e-6)


def test_no_tokens_encode_to_nothing() -> None:
    rows, latents, values = _coder(TopK(2)).encode_sparse(torch.empty(0, D_IN))
    assert len(rows) == len(latents) == len(values) == 0


def test_an_activation_equal_to_its_threshold_is_inactive() -> None:
    pre = torch.tensor([[0.5, 0.5000001, 0.0]])
    assert Threshold(torch.tensor(0.5)).dense(pre).tolist()[0][0] == 0.0
    assert len(Threshold(torch.zeros(())).sparse(torch.zeros(1, 3)).rows) == 0


@settings(max_examples=30)
@given(st.integers(1, D_SAE), st.integers(0, 2**20))
def test_top_k_keeps_at_most_k_and_none_larger_is_left_out(k: int, seed: int) -> None:
    pre = _random(5, D_SAE, seed=seed)
    dense = TopK(k).dense(pre)
    for row, raw in zip(dense.tolist(), pre.tolist(), strict=True):
        kept = [v for v in row if v != 0]
        assert len(kept) == min(k, sum(v > 0 for v in raw))
        assert sorted(kept) == sorted(v for v in sorted(raw)[-k:] if v > 0)


def test_rescaling_by_decoder_norm_ranks_and_decodes_by_it() -> None:
    plain, coder = _coder(TopK(3)), _coder(TopK(3), rescale_by_decoder_norm=True)
    x = _random(10, D_IN, seed=10)
    norms = _random(D_SAE, D_IN, seed=2).norm(dim=1)
    pre = torch.addmm(plain.b_enc, x, plain.W_enc) * norms
    expected = torch.tensor([_loop_top_k(row, 3) for row in pre.tolist()])
    torch.testing.assert_close(coder.encode(x), expected, atol=1e-5, rtol=1e-5)
    out = (expected / norms) @ _random(D_SAE, D_IN, seed=2) + coder.b_dec
    torch.testing.assert_close(coder.decode(expected, x), out, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(coder.decoder_directions().norm(dim=1), torch.ones(D_SAE))


def test_a_zero_decoder_row_does_not_make_its_latent_infinite() -> None:
    W_dec = torch.eye(D_SAE, D_IN)  # rows from D_IN on are zero
    coder = SparseCoder.assemble(
        _random(D_IN, D_SAE),
        W_dec,
        torch.zeros(D_SAE),
        torch.zeros(D_IN),
        relu(),
        subtract_b_dec=False,
        rescale_by_decoder_norm=True,
    )
    x = _random(4, D_IN)
    assert bool(coder.decode(coder.encode(x), x).isfinite().all())


def test_a_scale_of_the_data_set_is_folded() -> None:
    x, scale = _random(10, D_IN, seed=11), 2.5
    plain, scaled = _coder(relu()), _coder(relu(), scale_in=scale)
    torch.testing.assert_close(scaled.encode(x), plain.encode(x * scale), atol=1e-5, rtol=1e-5)
    acts = plain.encode(x * scale)
    expected = plain.decode(acts, x * scale) / scale
    torch.testing.assert_close(scaled.decode(acts, x), expected, atol=1e-5, rtol=1e-5)


def _loop_layer_norm(row: list[float]) -> tuple[list[float], float, float]:
    mean = sum(row) / len(row)
    spread = math.sqrt(sum((v - mean) ** 2 for v in row) / (len(row) - 1))
    return [(v - mean) / (spread + 1e-5) for v in row], spread, mean


def _loop_constant_norm(row: list[float]) -> tuple[list[float], float, float]:
    scale = math.sqrt(len(row)) / math.sqrt(sum(v * v for v in row))
    return [v * scale for v in row], 1 / scale, 0.0


@pytest.mark.parametrize(
    ("name", "loop"), [("layer_norm", _loop_layer_norm), ("constant_norm", _loop_constant_norm)]
)
def test_input_is_normalised_before_b_dec_and_undone_after(
    name: str, loop: Callable[[list[float]], tuple[list[float], float, float]]
) -> None:
    x = _random(10, D_IN, seed=12) * 3 + 1
    plain, coder = _coder(TopK(3)), _coder(TopK(3), normalisation=name)
    normed = [loop(row) for row in x.tolist()]
    inner = torch.tensor([row for row, _, _ in normed])
    acts = plain.encode(inner)
    torch.testing.assert_close(coder.encode(x), acts, atol=1e-5, rtol=1e-5)
    spread = torch.tensor([[s] for _, s, _ in normed])
    mean = torch.tensor([[m] for _, _, m in normed])
    expected = plain.decode(acts, inner) * spread + mean
    torch.testing.assert_close(coder.decode(acts, x), expected, atol=1e-5, rtol=1e-5)


def test_a_zero_token_stays_finite_under_constant_norm() -> None:
    coder = _coder(relu(), normalisation="constant_norm")
    assert bool(coder.encode(torch.zeros(1, D_IN)).isfinite().all())


def test_centring_subtracts_each_tokens_mean_and_gives_it_back() -> None:
    x = _random(10, D_IN, seed=13) + 5
    plain, coder = _coder(relu()), _coder(relu(), center=True)
    mean = x.mean(dim=1, keepdim=True)
    acts = plain.encode(x - mean)
    torch.testing.assert_close(coder.encode(x), acts, atol=1e-5, rtol=1e-5)
    expected = plain.decode(acts, x) + mean
    torch.testing.assert_close(coder.decode(acts, x), expected, atol=1e-5, rtol=1e-5)


def test_a_transcoder_has_its_own_output_width_and_a_skip_connection() -> None:
    x, d_out = _random(10, D_IN, seed=14), 4
    W_enc, W_dec = _random(D_IN, D_SAE, seed=1), _random(D_SAE, d_out, seed=2)
    W_skip, b_dec = _random(D_IN, d_out, seed=3), _random(d_out, seed=4)
    coder = SparseCoder.assemble(
        W_enc, W_dec, torch.zeros(D_SAE), b_dec, relu(), subtract_b_dec=False, W_skip=W_skip
    )
    acts = (x @ W_enc).relu()
    assert (coder.d_in, coder.d_sae, coder.d_out, coder.is_transcoder) == (D_IN, D_SAE, 4, True)
    expected = acts @ W_dec + b_dec + x @ W_skip
    torch.testing.assert_close(coder.decode(acts, x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_half_precision_encodes_to_float32_values(name: str) -> None:
    coder = _coder(ACTIVATIONS[name][0]).to("cpu", torch.bfloat16)
    assert coder.W_enc.dtype == torch.bfloat16
    assert coder.encode_sparse(_random(5, D_IN)).values.dtype == torch.float32


def test_a_wrong_width_is_one_line_that_names_the_hook() -> None:
    coder = replace(_coder(relu()), info=CoderInfo(path="my/coder"))
    coder.check_width(D_IN, "layers.1.output")
    with pytest.raises(AutointerpError, match=r"my/coder reads 6 .* layers\.1\.output has 7") as e:
        coder.check_width(7, "layers.1.output")
    assert "\n" not in str(e.value)


@settings(max_examples=60)
@given(st.integers(1, 600), st.integers(1, 40), st.integers(0, 2**20), st.booleans())
def test_the_largest_are_those_of_a_full_sort(width: int, k: int, seed: int, ties: bool) -> None:
    k = min(k, width)
    pre = _random(4, width * 4, seed=seed)
    pre = pre.round() if ties else pre
    values, columns = largest(pre, k)
    assert torch.equal(pre.gather(1, columns), values)
    assert all(len(set(row)) == k for row in columns.tolist())
    expected = pre.sort(dim=-1, descending=True).values[:, :k]
    assert torch.equal(values.sort(dim=-1, descending=True).values, expected)


@pytest.mark.parametrize("normalisation", ["none", "layer_norm", "constant_norm"])
@pytest.mark.parametrize("center", [False, True])
def test_sparse_activations_decode_to_the_dense_reconstruction(
    normalisation: coders.Normalisation, center: bool
) -> None:
    coder = _coder(TopK(3), normalisation=normalisation, center=center)
    x = _random(17, D_IN, seed=11)
    x[4] = 0
    acts = coder.encode_sparse(x)
    keep = (acts.rows != 2) & (acts.rows != 16)  # tokens where nothing is active
    acts = SparseActivations(*(column[keep] for column in acts))
    dense = coder.encode(x)
    dense[[2, 16]] = 0
    torch.testing.assert_close(coder.decode_sparse(acts, x), coder.decode(dense, x))
