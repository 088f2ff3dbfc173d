"""Activations of latents on texts of the user's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autointerp.config import RunConfig
from autointerp.examples.options import Attached
from autointerp.latents import AutointerpError, LatentId
from autointerp.pipeline import building
from autointerp.pipeline.lines import read_json_lines
from autointerp.subject.model import Subject

Active = NDArray[np.float64]  # [active, 3]: latent, position, activation


def read_texts(path: Path) -> list[str]:
    """Texts of a file that has one JSON string a line.

    Raises:
        AutointerpError: if it cannot be read, naming the line that is not one.
    """
    texts = []
    for where, text in read_json_lines(path, "texts"):
        if not isinstance(text, str):
            raise AutointerpError(f"{where} is not a JSON string")
        texts.append(text)
    return texts


def measure(config: RunConfig, latents: Sequence[LatentId], texts: Sequence[str]) -> dict[str, Any]:
    """The document of ``probe``: every text's tokens, and each latent's activations on them.

    A text longer than the context is read in pieces, each from a context of its own.

    Raises:
        AutointerpError: if a latent's coder is unknown or its index out of range.
    """
    unknown = sorted({i.coder for i in latents} - set(config.subject.coders))
    if unknown:
        known = ", ".join(config.subject.coders)
        raise AutointerpError(f"no coder {unknown[0]!r} in this configuration (known: {known})")
    coders = building.build_coders(config)
    for latent in latents:
        if latent.index >= (width := coders[latent.coder].d_sae):
            raise AutointerpError(f"{latent} is out of range; {latent.coder} has {width} latents")
    subject = building.build_subject(config)
    used = {name: coders[name] for name in dict.fromkeys(i.coder for i in latents)}
    attached = building.attach(config, subject, used)
    return {"texts": [_text(subject, attached, latents, text) for text in texts]}


def _text(
    subject: Subject,
    attached: Mapping[str, Attached],
    latents: Sequence[LatentId],
    text: str,
) -> dict[str, Any]:
    ids = subject.encode_text(text)
    active = active_on(subject, attached, ids)
    activations = {}
    for latent in latents:
        mine = active[latent.coder][active[latent.coder][:, 0] == latent.index]
        values = np.zeros(len(ids))
        values[mine[:, 1].astype(np.int64)] = mine[:, 2]
        activations[str(latent)] = [round(float(value), 4) for value in values]
    return {"tokens": [subject.vocabulary[i] for i in ids], "activations": activations}


def active_on(
    subject: Subject, attached: Mapping[str, Attached], ids: Sequence[int]
) -> dict[str, Active]:
    """By coder, all that is active on the tokens of a text, which is read in pieces of the context
    where it is longer."""
    length = subject.context_length - 1
    rows = [ids[low : low + length] for low in range(0, len(ids), length)]
    hooks = sorted({a.hook for a in attached.values()})
    found: dict[str, list[Active]] = {name: [np.zeros((0, 3))] for name in attached}
    for batch in subject.activations(rows, hooks) if rows else ():
        for place, (row, size) in enumerate(zip(batch.rows, batch.lengths, strict=True)):
            for name, a in attached.items():
                part = _active(a, batch.states[a.hook][place, :size])
                part = part[part[:, 1] >= subject.masked]
                part[:, 1] += row * length
                found[name].append(part)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _active(attached: Attached, states: Any) -> Active:
    """What is active at states [n, d]."""
    found = attached.coder.encode_sparse(states)
    columns = (found.latents, found.rows, found.values)
    return np.stack([column.cpu().double().numpy() for column in columns], axis=1)
