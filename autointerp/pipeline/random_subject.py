"""The control of a whole run on a model that knows nothing: its weights drawn anew.

Every tensor keeps its mean and spread, so that activations have the sizes that they had, and
coders of the run's widths are trained on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autointerp.config import RunConfig, build_config
from autointerp.examples.options import Attached
from autointerp.examples.store import ExampleStore
from autointerp.pipeline import building, directory
from autointerp.pipeline.random_coders import active_at_once, control_path, place_coder
from autointerp.statistics import derived_generator
from autointerp.subject.model import Subject
from autointerp.subject.training import Trained, train_topk

KIND = "random_subject"
TOKENS = 500_000  # that a coder is trained on, some of them more than once if there are fewer
BATCH = 2048  # tokens a step
CHUNK = 64  # rows that the subject reads at once


def derive(config: RunConfig) -> RunConfig:
    """The control's configuration, beside the run; its model and coders are made and written.

    Raises:
        AutointerpError: if the run has not collected its examples, whose text coders are
            trained on.
    """
    store = ExampleStore.open(config.run.path / directory.EXAMPLES)
    run, seed = control_path(config, KIND), config.run.seed
    tree = config.model_dump(mode="json")
    tree["run"] = {**tree["run"], "name": run.name}
    own = building.build_subject(config)
    redraw(own.model, seed)
    own.model.save_pretrained(run / "model")
    own.tokenizer.save_pretrained(run / "model")
    tree["subject"] |= {"model": str((run / "model").resolve()), "revision": None}
    coders = building.build_coders(config)
    for name, attached in building.attach(config, own, coders).items():
        k = active_at_once(attached.coder, store.coders[name].l0)
        trained = _train(own, attached, store, k, seed)
        target = tree["subject"]["coders"][name]["hook_out"]
        transcode = target is not None
        entry = place_coder(run, name, _tensors(trained, transcode), k, transcode=transcode)
        hook = str(attached.hook)
        tree["subject"]["coders"][name] = {**entry, "hook": hook, "hook_out": target}
    return build_config(tree, f"the control of {config.run.path}")


@torch.no_grad()
def redraw(model: Any, seed: int) -> None:
    """Draw every parameter from a normal distribution with its own mean and spread, in place."""
    for name, parameter in sorted(model.named_parameters()):
        rng = derived_generator(seed, KIND, name)
        mean, spread = float(parameter.float().mean()), float(parameter.float().std(correction=0))
        drawn = torch.from_numpy(rng.normal(mean, spread, size=tuple(parameter.shape)))
        parameter.copy_(drawn.to(parameter.device, parameter.dtype))


def _train(subject: Subject, attached: Attached, store: ExampleStore, k: int, seed: int) -> Trained:
    batches = _batches(subject, attached, store, seed)
    d_sae = attached.coder.d_sae
    return train_topk(batches, max(1, TOKENS // BATCH), d_sae=d_sae, k=k, seed=seed)


def _batches(
    subject: Subject, attached: Attached, store: ExampleStore, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """What the coder reads and is to predict, over the corpus in random order, again and again."""
    target = attached.target or attached.hook
    kept: list[tuple[Tensor, Tensor]] = []
    for rows in _rows(store, subject.context_length - 1, seed):
        for batch in subject.activations(rows, list({attached.hook, target})):
            length = batch.states[target].shape[1]
            place = torch.arange(length)[None, :]
            real = (place < torch.tensor(batch.lengths)[:, None]) & (place >= subject.masked)
            pair = (batch.states[h].detach().float()[real] for h in (attached.hook, target))
            kept.append((next(pair), next(pair)))
        x, y = (torch.cat(part) for part in zip(*kept, strict=True))
        mixed = torch.from_numpy(derived_generator(seed, "mix", len(x)).permutation(len(x)))
        x, y = x[mixed], y[mixed]
        whole = len(x) // BATCH * BATCH
        yield from _pairs(x[:whole], y[:whole])
        kept = [(x[whole:], y[whole:])]


def _pairs(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for begin in range(0, len(x), BATCH):
        yield x[begin : begin + BATCH], y[begin : begin + BATCH]


def _rows(store: ExampleStore, length: int, seed: int) -> Iterator[list[NDArray[np.int32]]]:
    """The corpus in rows, a chunk at a time, in another order every time that it is read."""
    turn = 0
    while True:
        rng = derived_generator(seed, "rows", turn)
        rows: list[NDArray[np.int32]] = []
        for document in rng.permutation(len(store.document_split)).tolist():
            tokens = store.tokens(document)
            rows += [tokens[i : i + length] for i in range(0, len(tokens), length)]
            if len(rows) >= CHUNK:
                yield rows
                rows = []
        if rows:
            yield rows
        turn += 1


def _tensors(trained: Trained, transcode: bool) -> Mapping[str, Tensor]:
    """As sparsify stores them; a transcoder's centre goes into the encoder's bias."""
    centre = trained.encoder @ trained.b_in
    bias = -centre if transcode else torch.zeros_like(centre)
    found = {
        "encoder.weight": trained.encoder,
        "encoder.bias": bias,
        "W_dec": trained.decoder,
        "b_dec": trained.b_out,
    }
    return {name: tensor.cpu().contiguous() for name, tensor in found.items()}
