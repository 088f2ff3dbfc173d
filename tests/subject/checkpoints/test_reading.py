"""What is common to all layouts: finding, refusing, hashing, fetching."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from coder_files import (
    D,
    M,
    write_dictionary,
    write_json,
    write_saelens,
    write_sparsify,
)
from safetensors.torch import save_file

from autointerp.latents import AutointerpError
from autointerp.subject.checkpoints import checkpoints, load_coder
from autointerp.subject.checkpoints.hooks import module_path
from autointerp.subject.checkpoints.hub import is_hub_path, wanted


def test_the_content_hash_is_that_of_the_weights_file(tmp_path: Path) -> None:
    write_sparsify(tmp_path)
    content = (tmp_path / "sae.safetensors").read_bytes()
    assert load_coder(tmp_path).info.sha256 == hashlib.sha256(content).hexdigest()


def test_device_and_dtype_are_those_asked_for(tmp_path: Path) -> None:
    write_sparsify(tmp_path)
    coder = load_coder(tmp_path, dtype=torch.bfloat16)
    assert coder.W_enc.dtype == coder.W_dec.dtype == torch.bfloat16


class Executed:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (pytest.fail, ("a pickle was executed",))


def _missing_tensor(folder: Path) -> None:
    t = write_sparsify(folder)
    del t["b_dec"]
    save_file(t, folder / "sae.safetensors")


def _wrong_shape(folder: Path) -> None:
    t = write_sparsify(folder)
    save_file(t | {"encoder.bias": torch.zeros(M + 1)}, folder / "sae.safetensors")


def _cut_short(folder: Path) -> None:
    write_sparsify(folder)
    content = (folder / "sae.safetensors").read_bytes()
    (folder / "sae.safetensors").write_bytes(content[: len(content) // 2])


def _bad_json(folder: Path) -> None:
    write_sparsify(folder)
    (folder / "cfg.json").write_text("{")


def _executable(folder: Path) -> None:
    (folder / "ae.pt").write_bytes(pickle.dumps({"encoder.weight": Executed()}))
    trainer = {"dict_class": "AutoEncoder"}
    write_json(folder / "config.json", {"trainer": trainer})


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing tensor": (_missing_tensor, "no tensor 'b_dec'"),
    "wrong shape": (_wrong_shape, r"'encoder.bias' has shape \[25\], expected \[24\]"),
    "cut short": (_cut_short, "not a readable safetensors file"),
    "bad JSON": (_bad_json, "cannot be read as JSON"),
    "k too large": (lambda f: write_sparsify(f, k=M + 1), "more than the coder's 24 latents"),
    "k not a number": (lambda f: write_sparsify(f, k="many"), "must be a whole number"),
    "k is NaN": (lambda f: write_sparsify(f, k=float("nan")), "must be a whole number"),
    "no k": (lambda f: write_sparsify(f, k=None), "must be a whole number"),
    "unknown activation": (lambda f: write_sparsify(f, activation="softmax"), "softmax"),
    "uneven groups": (lambda f: write_sparsify(f, activation="groupmax", k=7), "7 groups"),
    "wrong d_in": (lambda f: write_sparsify(f, d_in=D + 1), "encoder.weight"),
    "code in a pickle": (_executable, "cannot be loaded as plain tensors"),
    "unknown dict_class": (
        lambda f: (write_dictionary(f, "AutoEncoder"), write_json(f / "config.json", {})),
        "dict_class",
    ),
    "an empty folder": (lambda f: None, "not a sparse coder of a known layout"),
    "other files": (lambda f: (f / "notes.txt").write_text("x"), "notes.txt"),
    "unfolded whitening": (
        lambda f: write_saelens(f, "standard", normalize_activations="covariance_whitening"),
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
    assert module_path("blocks.1.hook_mlp_out", "gemma-2b") == "model.layers.1.mlp.output"
    before_norm = "model.layers.1.pre_feedforward_layernorm.input"
    assert module_path("blocks.1.hook_mlp_in", gemma) == before_norm
    assert module_path("blocks.1.hook_mlp_in", "pythia-70m") == "gpt_neox.layers.1.input"
    assert module_path("blocks.1.mlp.hook_in", gemma) == "model.layers.1.mlp.input"
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
