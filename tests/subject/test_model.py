"""The subject runtime against plain forwards of the same models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3Config,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

from autointerp.latents import AutointerpError
from autointerp.subject.loading import load_subject
from autointerp.subject.model import HookPoint, Subject


@pytest.fixture(scope="module")
def subject() -> Subject:
    return load_subject("demo", context_length=32)


@pytest.fixture(scope="module")
def rows(subject: Subject) -> list[list[int]]:
    text = "def parse(self, text):\n    return [int(x) for x in text.split()]\n" * 3
    ids = subject.encode_text(text)
    return [ids[i : i + n] for i, n in enumerate((31, 5, 1, 12, 31, 8))]


def gpt2(tokenizer: PreTrainedTokenizerFast, bos: str | None, policy: str) -> Subject:
    """A random GPT-2 whose tokenizer has, or lacks, a BOS."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=16, n_layer=12, n_head=2)
    other = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, bos_token=bos)
    model = GPT2LMHeadModel(config).eval()
    return Subject(model, other, name="gpt2", context_length=16, bos=policy)  # type: ignore[arg-type]


def test_hooks_see_what_a_plain_forward_computes(subject: Subject, rows: list[list[int]]) -> None:
    hooks = [subject.hook_point(n) for n in ("layers.1", "layers.2.input", "layers.2.mlp.input")]
    norms = {}
    layer = subject.model.model.layers[2].post_attention_layernorm
    for batch in subject.activations(rows, hooks):
        for at, (row, length) in enumerate(zip(batch.rows, batch.lengths, strict=True)):
            ids = torch.tensor([[subject.bos_id, *rows[row]]])
            handle = layer.register_forward_hook(lambda _m, _a, out: norms.update(out=out))
            with torch.inference_mode():
                states = subject.model(ids, output_hidden_states=True).hidden_states
            handle.remove()
            for hook, expected in zip(hooks, (states[2], states[2], norms["out"]), strict=True):
                found = batch.states[hook][at, :length]
                torch.testing.assert_close(found, expected[0, 1:], rtol=1e-4, atol=1e-5)


def test_batches_respect_the_token_limit_and_lose_no_row(rows: list[list[int]]) -> None:
    small = load_subject("demo", context_length=32, batch_tokens=40)
    hook = small.hook_point("layers.0")
    batches = list(small.activations([*rows, []], [hook]))
    assert sorted(i for b in batches for i in b.rows) == list(range(len(rows)))
    assert all(len(b.rows) * (max(b.lengths) + 1) <= 40 for b in batches)
    lengths = [n for b in batches for n in b.lengths]
    assert lengths == sorted(lengths, reverse=True)


def test_the_forward_stops_after_the_deepest_hook(subject: Subject, rows: list[list[int]]) -> None:
    ran: list[str] = []
    handles = [
        layer.register_forward_hook(lambda *_, i=i: ran.append(str(i)))
        for i, layer in enumerate(subject.model.model.layers)
    ]
    hooks = [subject.hook_point("layers.1"), subject.hook_point("layers.0.mlp")]
    assert len(list(subject.activations(rows[:1], hooks))) == 1
    for handle in handles:
        handle.remove()
    assert ran == ["0", "1"]


def test_running_out_of_memory_halves_the_batches(
    rows: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = load_subject("demo", context_length=32, batch_tokens=200)
    hook = small.hook_point("layers.0")
    forward = small.model.model.forward

    def limited(*args: object, input_ids: torch.Tensor, **kwargs: object) -> object:
        if input_ids.numel() > limit:
            raise torch.OutOfMemoryError("no memory left")
        return forward(*args, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(small.model.model, "forward", limited)
    limit = 70
    batches = list(small.activations(rows, [hook]))
    assert sorted(i for b in batches for i in b.rows) == list(range(len(rows)))
    assert small.batch_tokens <= 70
    limit = 10
    with pytest.raises(AutointerpError, match="one row of 31 tokens does not fit"):
        list(small.activations(rows, [hook]))


def test_names_are_found_by_suffix_on_dotted_boundaries(subject: Subject) -> None:
    assert subject.hook_point("layers.1") == HookPoint("model.layers.1", "output")
    assert str(subject.hook_point("layers.2.mlp.input")) == "model.layers.2.mlp.input"
    assert subject.hook_point("model.layers.3.output").side == "output"
    with pytest.raises(AutointerpError, match=r"'mlp' is ambiguous .* model\.layers\.0\.mlp"):
        subject.hook_point("mlp")
    with pytest.raises(AutointerpError, match=r"no module 'layers\.10'.*near names: .*layers\.1"):
        subject.hook_point("layers.10")
    with pytest.raises(AutointerpError, match=r"no module 'ayers\.1'"):
        subject.hook_point("ayers.1")


def test_layer_one_is_never_layer_ten(subject: Subject) -> None:
    deep = gpt2(subject.tokenizer, "<|endoftext|>", "skip")
    assert deep.hook_point("h.1").module == "transformer.h.1"
    assert deep.hook_point("h.10").module == "transformer.h.10"
    assert deep.width(deep.hook_point("h.1.mlp.c_fc")) == 64
    assert deep.width(deep.hook_point("h.1.attn")) == 16  # a module that returns a tuple


@pytest.fixture(scope="module")
def seeing(subject: Subject) -> Subject:
    """A random Gemma 3 that reads images too, as the causal language model that it is."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
    text = {"vocab_size": len(subject.tokenizer), "num_key_value_heads": 1, "head_dim": 8}
    image = {"image_size": 28, "patch_size": 14}
    config = Gemma3Config(
        text_config=sizes | text | {"num_attention_heads": 2},
        vision_config=sizes | image | {"num_attention_heads": 2},
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    return Subject(model, subject.tokenizer, name="gemma-3", context_length=16)


@pytest.mark.parametrize("name", ["layers.1", "model.layers.1", "model.language_model.layers.1"])
def test_a_language_model_inside_another_keeps_its_modules_names(
    seeing: Subject, name: str
) -> None:
    hook = seeing.hook_point(name)
    assert hook.module == "model.language_model.layers.1"
    (batch,) = seeing.activations([[5, 6, 7]], [hook])
    assert batch.states[hook].shape == (1, 3, 16)
    assert seeing.hook_point("encoder.layers.1").module == "model.vision_tower.encoder.layers.1"


@pytest.mark.parametrize(
    ("bos", "policy", "masked"),
    [("<|endoftext|>", "skip", 0), (None, "skip", 1), (None, "keep", 0)],
)
def test_position_zero_is_left_out_whether_or_not_it_is_bos(
    subject: Subject, bos: str | None, policy: str, masked: int
) -> None:
    model = gpt2(subject.tokenizer, bos, policy)
    hook = model.hook_point("h.3")
    row = [5, 6, 7, 8]
    (batch,) = model.activations([row], [hook])
    ids = torch.tensor([([0] if bos else []) + row])
    with torch.inference_mode():
        states = model.model(ids, output_hidden_states=True).hidden_states[4]
    assert batch.states[hook].shape == (1, 4, 16)
    torch.testing.assert_close(batch.states[hook], states[:, -4:], rtol=1e-4, atol=1e-5)
    assert model.masked == masked


def test_a_row_longer_than_the_context_is_refused(subject: Subject) -> None:
    with pytest.raises(AutointerpError, match="exceeds the context of 32"):
        list(subject.activations([list(range(32))], [subject.hook_point("layers.0")]))


@pytest.mark.parametrize("text", ['it\'s "quoted"\n\tno', "naïve — 日本語", "a  b", ""])
def test_the_vocabulary_spells_every_text(subject: Subject, text: str) -> None:
    ids = subject.encode_text(text)
    assert all(i < len(subject.vocabulary) for i in ids)
    spelled = "".join(subject.vocabulary[i] for i in ids)
    if text.isascii():
        assert spelled == text
    assert ids == subject.encode_texts([text, "x"])[0].tolist()
    assert ids == subject.tokenizer(text, add_special_tokens=False)["input_ids"]


def test_bad_models_and_devices_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(AutointerpError, match="cannot load the model") as caught:
        load_subject(str(tmp_path / "absent"))
    assert "\n" not in str(caught.value)
    with pytest.raises(AutointerpError, match="unknown dtype 'int8'"):
        load_subject("demo", dtype="int8")
    with pytest.raises(AutointerpError, match="unknown device 'abacus'"):
        load_subject("demo", device="abacus")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_precisions_come_close(subject: Subject, rows: list[list[int]], dtype: str) -> None:
    other = load_subject("demo", dtype=dtype, context_length=32)
    hook = subject.hook_point("layers.1")
    (exact,) = subject.activations(rows[:1], [hook])
    (rough,) = other.activations(rows[:1], [hook])
    assert rough.states[hook].dtype == other.dtype
    error = np.linalg.norm((rough.states[hook].float() - exact.states[hook]).numpy())
    assert error < 0.05 * np.linalg.norm(exact.states[hook].numpy())
