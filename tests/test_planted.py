"""The planted subject does what it says, checked with plain transformers and naive arithmetic."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planted import build_truth, write_document
from planted_coders import SAELENS, TOPK, TRANSCODER, Planted, topk_order
from planted_weights import POSITIONS
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

TRUTH = build_truth()
rows = st.lists(st.sampled_from(TRUTH.vocabulary[2:]), min_size=1, max_size=POSITIONS - 1)
documents = st.integers(0, 10**6).map(lambda seed: write_document(random.Random(seed)).split())
texts = st.one_of(rows, documents.map(lambda words: words[: POSITIONS - 1]))
relaxed = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def model(planted: Planted) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(planted.files.model, dtype=torch.float32).eval()


Run = Callable[[list[list[str]]], dict[str, Tensor]]


@pytest.fixture(scope="module")
def run(model: PreTrainedModel) -> Run:
    """Tensors at each coder's hook points for rows of words, BOS prepended; [b, 1 + t, d]."""

    def forward(batch: list[list[str]]) -> dict[str, Tensor]:
        longest = max(map(len, batch))
        ids = torch.tensor([_ids(row) + [0] * (longest - len(row)) for row in batch])
        mask = torch.tensor([[1] * (1 + len(row)) + [0] * (longest - len(row)) for row in batch])
        seen: dict[str, Tensor] = {}
        first = model.transformer.h[0]
        hook = first.mlp.register_forward_hook(
            lambda _module, inputs, output: seen.update({"in": inputs[0], "out": output})
        )
        with torch.no_grad():
            states = model.transformer(ids, attention_mask=mask, output_hidden_states=True)
            last = model.transformer.h[1](states.hidden_states[1])
        hook.remove()
        assert isinstance(last, Tensor)
        return {SAELENS: states.hidden_states[1], TOPK: last, **seen, TRANSCODER: seen["in"]}

    return forward


def _ids(words: list[str]) -> list[int]:
    table = {word: i for i, word in enumerate(TRUTH.vocabulary)}
    return [table["<bos>"], *(table[word] for word in words)]


def _jumprelu(folder: Path, x: Tensor) -> Tensor:
    t = load_file(folder / "sae_weights.safetensors")
    pre = x @ t["W_enc"] + t["b_enc"]
    return torch.relu(pre) * (pre > t["threshold"])


def _topk(folder: Path, x: Tensor) -> Tensor:
    config = json.loads((folder / "cfg.json").read_text())
    t = load_file(folder / "sae.safetensors")
    if not config["transcode"]:
        x = x - t["b_dec"]
    pre = torch.relu(x @ t["encoder.weight"].T + t["encoder.bias"])
    values, indices = pre.topk(config["k"], dim=-1)
    return torch.zeros_like(pre).scatter(-1, indices, values)


def _encode(planted: Planted, coder: str, x: Tensor) -> Tensor:
    """Activations of the planted latents, in planted order; [t, latents]."""
    folder = planted.files.coders[coder]
    if coder == SAELENS:
        return _jumprelu(folder, x)
    acts = _topk(folder, x)
    return acts[..., topk_order(planted.truth)] if coder == TOPK else acts


def _expected(words: list[str]) -> Tensor:
    return torch.tensor([TRUTH.fires(latent.index, words) for latent in TRUTH.latents]).T


def test_families_are_large_enough() -> None:
    assert len(TRUTH.latents) >= 60
    for family in ("token_set", "previous", "earlier", "either_or", "unless"):
        assert len(TRUTH.family(family)) >= 8
    for family in ("dense", "rare", "dead"):
        assert TRUTH.family(family)
    assert len({latent.explanation for latent in TRUTH.latents}) >= len(TRUTH.latents) - 1


@pytest.mark.parametrize("coder", [SAELENS, TOPK, TRANSCODER])
@relaxed
@given(words=texts)
def test_latents_fire_exactly_where_their_rules_say(
    planted: Planted, run: Run, coder: str, words: list[str]
) -> None:
    acts = _encode(planted, coder, run([words])[coder][0, 1:])
    wrong = ((acts > 0) != _expected(words)).nonzero().tolist()
    assert wrong == []


@relaxed
@given(batch=st.lists(texts, min_size=2, max_size=4))
def test_activations_do_not_depend_on_the_batch(
    planted: Planted, run: Run, batch: list[list[str]]
) -> None:
    together = run(batch)[SAELENS]
    for row, words in enumerate(batch):
        alone = run([words])[SAELENS][0]
        torch.testing.assert_close(together[row, : 1 + len(words)], alone, rtol=1e-4, atol=1e-4)


def test_activations_have_the_strength_of_the_rule(planted: Planted, run: Run) -> None:
    words = planted.texts[0].split()[: POSITIONS - 1]
    acts = _encode(planted, SAELENS, run([words])[SAELENS][0, 1:])
    for position, index in _expected(words).nonzero().tolist():
        latent = TRUTH.latents[index]
        drive = latent.rule.strengths[words[position]] - 0.1
        assert abs(acts[position, index].item() / latent.scale - drive) <= 0.0501


def test_decoys_stay_below_the_threshold(planted: Planted, run: Run) -> None:
    latent = next(latent for latent in TRUTH.latents if latent.rule.decoys)
    (decoy,) = latent.rule.decoys
    tensors = load_file(planted.files.coders[SAELENS] / "sae_weights.safetensors")
    pre = run([[decoy]])[SAELENS][0, 1] @ tensors["W_enc"][:, latent.index]
    assert 0.05 * latent.scale < pre < tensors["threshold"][latent.index]


def test_coders_explain_variance(planted: Planted, run: Run) -> None:
    """Around the mean; the transcoder reconstructs the MLP but for the drive of decoys."""
    words = planted.texts[0].split()[: POSITIONS - 1]
    tensors = run([words])
    targets = {SAELENS: SAELENS, TOPK: TOPK, TRANSCODER: "out"}
    for coder, target in targets.items():
        name = "sae_weights.safetensors" if coder == SAELENS else "sae.safetensors"
        stored = load_file(planted.files.coders[coder] / name)
        rows_ = stored["W_dec"][topk_order(TRUTH)] if coder == TOPK else stored["W_dec"]
        acts = _encode(planted, coder, tensors[coder][0, 1:])
        y = tensors[target][0, 1:]
        left = (y - acts @ rows_ - stored["b_dec"]).square().sum()
        assert 1 - left / (y - y.mean(0)).square().sum() > 0.1


def test_decoder_neighbours_are_the_siblings(planted: Planted) -> None:
    rows_ = load_file(planted.files.coders[SAELENS] / "sae_weights.safetensors")["W_dec"]
    cosines = rows_ @ rows_.T - 2 * torch.eye(len(rows_))
    assert cosines.argmax(dim=1).tolist() == [TRUTH.sibling(i) for i in range(len(rows_))]


@pytest.mark.parametrize("coder", [SAELENS, TOPK, TRANSCODER])
def test_a_latents_direction_promotes_its_tokens(
    planted: Planted, model: PreTrainedModel, coder: str
) -> None:
    module = {SAELENS: "h.0", TOPK: "h.1", TRANSCODER: "h.0.mlp"}[coder]
    name = "sae_weights.safetensors" if coder == SAELENS else "sae.safetensors"
    decoder = load_file(planted.files.coders[coder] / name)["W_dec"]
    if coder == TOPK:
        decoder = decoder[topk_order(TRUTH)]
    ids = torch.tensor([_ids(planted.texts[1].split()[:20])])
    with torch.no_grad():
        clean = model(ids).logits[0, -1].log_softmax(-1)
        for latent in TRUTH.latents:
            delta = 8.0 * decoder[latent.index]
            hook = model.transformer.get_submodule(module).register_forward_hook(
                lambda _module, _inputs, output, delta=delta: output + delta
            )
            gain = model(ids).logits[0, -1].log_softmax(-1) - clean
            hook.remove()
            best = gain.topk(len(latent.promoted)).indices.tolist()
            assert {TRUTH.vocabulary[i] for i in best} == set(latent.promoted)


def test_every_family_fires_often_enough_in_the_corpus(planted: Planted) -> None:
    counts = [0] * len(TRUTH.latents)
    hits = [0] * len(TRUTH.latents)
    total = 0
    for text in planted.texts:
        words = text.split()
        total += len(words)
        for latent in TRUTH.latents:
            fired = sum(TRUTH.fires(latent.index, words))
            counts[latent.index] += fired
            hits[latent.index] += fired > 0
    for latent in TRUTH.latents:
        share = counts[latent.index] / total
        if latent.family == "dead":
            assert counts[latent.index] == 0
        elif latent.family == "rare":
            assert 0 < hits[latent.index] < 20
        elif latent.family == "dense":
            assert share > 0.3
        else:
            assert hits[latent.index] >= 90
            assert 0.001 < share < 0.05


def test_texts_survive_the_tokenizer(planted: Planted) -> None:
    tokenizer = AutoTokenizer.from_pretrained(planted.files.model)
    text = planted.texts[2]
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert ids == _ids(text.split())[1:]
    assert tokenizer.decode(ids) == text
    assert tokenizer.bos_token_id == TRUTH.vocabulary.index("<bos>")
    assert tokenizer.pad_token_id is None


def test_tests_cannot_reach_the_network() -> None:
    with socket.socket() as outside, pytest.raises(pytest.fail.Exception, match="only loopback"):
        outside.connect(("192.0.2.1", 80))
