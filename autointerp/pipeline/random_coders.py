"""Configurations derived from a run's for controls of the whole method: random sparse coders.

A random coder has as many latents as the run's and as many active at once, but its encoder's rows
are random unit vectors: what its explanations score is what the method finds in the model's
activations without any learned feature.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from autointerp.config import RunConfig, build_config
from autointerp.examples.store import ExampleStore
from autointerp.pipeline import building, directory
from autointerp.statistics import derived_generator
from autointerp.subject.activation_functions import TopK
from autointerp.subject.coders import SparseCoder

KIND = "random_coder"


def derive(config: RunConfig) -> RunConfig:
    """The control's configuration, beside the run: its name and the control's; the coders that
    it names are written there.

    Raises:
        AutointerpError: if the run has not collected its examples, which tell how many latents
            are active at once.
    """
    store = ExampleStore.open(config.run.path / directory.EXAMPLES)
    run = control_path(config, KIND)
    tree = config.model_dump(mode="json")
    tree["run"] = {**tree["run"], "name": run.name}
    for name, coder in building.build_coders(config).items():
        section = tree["subject"]["coders"][name]
        tensors = _random(coder, config.run.seed, name)
        k = active_at_once(coder, store.coders[name].l0)
        entry = place_coder(run, name, tensors, k, transcode=section["hook_out"] is not None)
        hook = section["hook"] or coder.info.hook or name
        tree["subject"]["coders"][name] = {**entry, "hook": hook, "hook_out": section["hook_out"]}
    return build_config(tree, f"the control of {config.run.path}")


def control_path(config: RunConfig, kind: str) -> Path:
    """Where a run's control lies: beside it."""
    return config.run.path.with_name(f"{config.run.path.name}-{kind}")


def active_at_once(coder: SparseCoder, l0: float) -> int:
    """The k of a TopK coder that is to be like ``coder``, of which ``l0`` are active a token."""
    k = coder.activation.k if isinstance(coder.activation, TopK) else l0
    return max(1, round(k))


def _random(coder: SparseCoder, seed: int, name: str) -> dict[str, torch.Tensor]:
    """Random unit vectors for encoder and decoder (the same where input and output are), about
    the coder's own centre."""
    rng = derived_generator(seed, KIND, name)
    d_sae, d_out = coder.W_dec.shape
    encoder = _unit_rows(torch.from_numpy(rng.standard_normal((d_sae, coder.d_in))))
    if d_out != coder.d_in:
        decoder = _unit_rows(torch.from_numpy(rng.standard_normal((d_sae, d_out))))
    else:
        decoder = encoder.clone()
    bias = torch.zeros(d_sae)
    return {
        "encoder.weight": encoder,
        "encoder.bias": bias,
        "W_dec": decoder,
        "b_dec": coder.b_dec.detach().float().cpu().contiguous(),
    }


def _unit_rows(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows.float(), dim=1).contiguous()


def place_coder(
    run: Path, name: str, tensors: Mapping[str, torch.Tensor], k: int, *, transcode: bool
) -> dict[str, Any]:
    """Write a coder below ``run`` in the layout of EleutherAI's sparsify, whose TopK coders read
    the tensor less ``b_dec`` unless they transcode; returns its place for a configuration."""
    folder = run / "coders" / name
    folder.mkdir(parents=True, exist_ok=True)
    d_sae, d_in = tensors["encoder.weight"].shape
    config: dict[str, Any] = {
        "activation": "topk",
        "num_latents": d_sae,
        "k": k,
        "d_in": d_in,
        "transcode": transcode,
        "skip_connection": False,
    }
    save_file(dict(tensors), folder / "sae.safetensors")
    (folder / "cfg.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    return {"path": str(folder.resolve())}
