"""The embedded subject's sparse coders: how they are trained and saved."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from demo_model import DEVICE, ROW, WIDTH, Rows, autocast
from safetensors.torch import save_file
from transformers import LlamaForCausalLM


@dataclass(frozen=True)
class CoderPlan:
    """One coder to train. ``layout`` is the on-disk format; ``path`` its place in the demo."""

    path: str
    layout: str
    block: int
    kind: str
    width: int
    k: int
    transcode: bool = False


class Coder(torch.nn.Module):
    """A TopK or BatchTopK coder with an auxiliary loss that revives dead latents.

    Gao et al. 2024 (arXiv 2406.04093) for TopK and the auxiliary loss, Bussmann et al. 2024
    (arXiv 2412.06410) for BatchTopK and the single inference threshold.
    """

    idle: torch.Tensor  # [width], tokens since each latent was last active
    threshold: torch.Tensor

    def __init__(self, plan: CoderPlan, mean_in: torch.Tensor, mean_out: torch.Tensor) -> None:
        super().__init__()
        self.plan = plan
        generator = torch.Generator().manual_seed(plan.block + 10 * plan.transcode)
        directions = torch.randn(plan.width, WIDTH, generator=generator)
        directions = torch.nn.functional.normalize(directions, dim=1).to(DEVICE)
        self.W_enc = torch.nn.Parameter(directions.clone())
        self.W_dec = torch.nn.Parameter(directions if not plan.transcode else directions * 0.1)
        bias = -(directions @ mean_in) if plan.transcode else torch.zeros(plan.width).to(DEVICE)
        self.b_enc = torch.nn.Parameter(bias)
        self.b_dec = torch.nn.Parameter(mean_out.clone())
        self.register_buffer("idle", torch.zeros(plan.width, device=DEVICE))
        self.register_buffer("threshold", torch.zeros((), device=DEVICE))

    def pre(self, x: torch.Tensor) -> torch.Tensor:
        return (x if self.plan.transcode else x - self.b_dec) @ self.W_enc.T + self.b_enc

    def sparse(self, pre: torch.Tensor) -> torch.Tensor:
        acts = pre.relu()
        if self.plan.kind == "topk":
            top = acts.topk(self.plan.k, dim=1, sorted=False)
            return torch.zeros_like(acts).scatter(1, top.indices, top.values)
        kept = acts.flatten().topk(self.plan.k * len(acts), sorted=False).values.min()
        with torch.no_grad():
            self.threshold.lerp_(kept.float(), 0.01 if self.threshold > 0 else 1.0)
        return acts * (acts >= kept)

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with autocast():
            pre = self.pre(x)
            acts = self.sparse(pre)
            rebuilt = acts @ self.W_dec
        error = y - rebuilt.float() - self.b_dec
        scale = (y - y.mean(0)).square().sum()
        self.idle += len(x)
        self.idle[(acts.detach() > 0).any(0)] = 0
        dead = self.idle > 200_000
        loss = error.square().sum() / scale
        if dead.any():
            with autocast():
                few = pre[:, dead]
                top = few.topk(min(64, few.shape[1]), dim=1, sorted=False)
                revived = torch.zeros_like(few).scatter(1, top.indices, top.values.relu())
                guess = revived @ self.W_dec[dead]
            loss = loss + (error.detach() - guess.float()).square().sum() / scale / 32
        return loss

    @torch.no_grad()
    def normalise(self) -> None:
        if not self.plan.transcode:
            self.W_dec /= self.W_dec.norm(dim=1, keepdim=True)


@torch.no_grad()
def activations(
    model: LlamaForCausalLM, ids: torch.Tensor, plans: list[CoderPlan]
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Input and target of each plan's coder, [rows · (ROW − 1), WIDTH]; position 0 is left out."""
    seen: dict[str, torch.Tensor] = {}
    handles = []
    for i, block in enumerate(model.model.layers):
        handles.append(block.register_forward_hook(lambda m, a, o, i=i: seen.update({f"{i}": o})))
        handles.append(
            block.mlp.register_forward_hook(
                lambda m, a, o, i=i: seen.update({f"{i}.in": a[0], f"{i}.out": o})
            )
        )
    with autocast():
        model.model(input_ids=ids)
    for handle in handles:
        handle.remove()
    flat = {name: t.float()[:, 1:].reshape(-1, WIDTH) for name, t in seen.items()}
    return {
        p.path: (
            (flat[f"{p.block}.in"], flat[f"{p.block}.out"])
            if p.transcode
            else (flat[f"{p.block}"], flat[f"{p.block}"])
        )
        for p in plans
    }


def train_coders(
    model: LlamaForCausalLM, plans: list[CoderPlan], rows: Rows, steps: int, batch: int
) -> dict[str, Coder]:
    """Train the planned coders on one stream of activations."""
    first = activations(model, rows.batch(64), plans)
    coders = {p.path: Coder(p, first[p.path][0].mean(0), first[p.path][1].mean(0)) for p in plans}
    optimizers = {
        path: torch.optim.Adam(coder.parameters(), lr=2e-3 if not coder.plan.transcode else 1e-3)
        for path, coder in coders.items()
    }
    started = time.time()
    for step in range(steps):
        batches = activations(model, rows.batch(batch), plans)
        factor = min(1.0, (step + 1) / 50, (steps - step) / (0.3 * steps))
        for path, coder in coders.items():
            optimizer = optimizers[path]
            for group in optimizer.param_groups:
                group["lr"] = factor * (1e-3 if coder.plan.transcode else 2e-3)
            loss = coder.loss(*batches[path])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            coder.normalise()
            if step % 50 == 0:
                dead = float((coder.idle > 200_000).float().mean())
                print(f"  {path} {step}/{steps} FVU {loss.item():.3f} dead {dead:.3f}", flush=True)
        if step % 50 == 0:
            print(f"{(step + 1) * batch * (ROW - 1) / (time.time() - started):,.0f} tokens/s")
    return coders


def half(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", torch.bfloat16).contiguous()


def save(coder: Coder, folder: Path) -> None:
    """Write a coder in the layout that its plan names, in bfloat16."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors, cfg = _sparsify(coder) if coder.plan.layout == "sparsify" else _saelens(coder)
    name = "sae.safetensors" if coder.plan.layout == "sparsify" else "sae_weights.safetensors"
    save_file(tensors, folder / name)
    (folder / "cfg.json").write_text(json.dumps(cfg, indent=1) + "\n")


def _sparsify(coder: Coder) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    plan = coder.plan
    tensors = {
        "encoder.weight": half(coder.W_enc),
        "encoder.bias": half(coder.b_enc),
        "W_dec": half(coder.W_dec),
        "b_dec": half(coder.b_dec),
    }
    cfg: dict[str, object] = {
        "activation": "topk",
        "expansion_factor": 32,
        "normalize_decoder": not plan.transcode,
        "num_latents": plan.width,
        "k": plan.k,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": plan.transcode,
        "d_in": WIDTH,
    }
    return tensors, cfg


def _saelens(coder: Coder) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """Decoder rows of norm 1, the norms and the single threshold folded into the encoder."""
    plan = coder.plan
    norms = coder.W_dec.norm(dim=1)
    threshold = coder.threshold * norms
    tensors = {
        "W_enc": half((coder.W_enc * norms[:, None]).T),
        "b_enc": half(coder.b_enc * norms),
        "W_dec": half(coder.W_dec / norms[:, None]),
        "b_dec": half(coder.b_dec),
        "threshold": half(threshold),
    }
    cfg: dict[str, object] = {
        "d_in": WIDTH,
        "d_sae": plan.width,
        "dtype": "bfloat16",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "architecture": "jumprelu",
        "metadata": {
            "sae_lens_version": "6.54.12",
            "model_name": "autointerp-demo",
            "hook_name": f"blocks.{plan.block}.hook_resid_post",
            "hf_hook_name": f"model.layers.{plan.block}",
            "prepend_bos": True,
            "context_size": ROW,
        },
    }
    return tensors, cfg
