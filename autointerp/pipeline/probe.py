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
    length = subject.context_length - 1
    rows = [ids[low : low + length] for low in range(0, len(ids), length)]
    found = {latent: np.zeros(len(ids), np.float32) for latent in latents}
    hooks = sorted({a.hook for a in attached.values()})
    for batch in subject.activations(rows, hooks) if rows else ():
        for place, (row, size) in enumerate(zip(batch.rows, batch.lengths, strict=True)):
            for latent, values in found.items():
                state = batch.states[attached[latent.coder].hook][place, :size]
                low = row * length
                values[low : low + size] = _activations(attached[latent.coder], state, latent)
                values[low : low + subject.masked] = 0
    return {
        "tokens": [subject.vocabulary[i] for i in ids],
        "activations": {
            str(latent): [round(float(v), 4) for v in values] for latent, values in found.items()
        },
    }


def _activations(attached: Attached, state: Any, latent: LatentId) -> NDArray[np.float32]:
    encoded = attached.coder.encode(state)[:, latent.index]
    values: NDArray[np.float32] = encoded.float().cpu().numpy()
    return values
