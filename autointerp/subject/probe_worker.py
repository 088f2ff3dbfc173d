"""Texts to readings, in few forward passes and no more."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autointerp.subject.activation_functions import SparseActivations
from autointerp.subject.coders import SparseCoder
from autointerp.subject.model import Batch, HookPoint, Subject
from autointerp.subject.probe_cache import Probe, Reading

CPU_BATCH = 1024  # tokens: what a larger batch computes does not stay in a processor's cache
_DROPPED = 12  # of the 24 significant bits of a float32


@dataclass
class Measured:
    """Readings of probes, why the others cannot be measured, and what it took."""

    readings: dict[Probe, Reading] = field(default_factory=dict)
    refused: dict[Probe, str] = field(default_factory=dict)
    texts: int = 0
    tokens: int = 0
    forward_passes: int = 0


class Prober:
    """Measures lots of probes; one call at a time.

    When ``stop`` is set, the lot under way ends after its batch, with fewer readings.
    """

    def __init__(
        self,
        subject: Subject,
        coders: Mapping[str, tuple[SparseCoder, HookPoint]],
        stop: Event | None = None,
    ) -> None:
        self._subject, self._coders = subject, coders
        self._stop = stop or Event()

    def __call__(self, lot: Sequence[Probe]) -> Measured:
        """A reading of each probe, or why its text cannot be measured."""
        askers: dict[str, list[str]] = {}
        for probe in lot:
            askers.setdefault(probe.text, []).append(probe.coder)
        rows = self._encode(list(askers))
        reasons = {text: why for text, row in rows.items() if (why := self._refusal(text, row))}
        measured = Measured(
            refused={Probe(n, text): why for text, why in reasons.items() for n in askers[text]}
        )
        fitting = {t: row for t, row in rows.items() if row is not None and t not in reasons}
        self._measure(askers, fitting, measured)
        return measured

    def _encode(self, texts: Sequence[str]) -> dict[str, NDArray[np.int32] | None]:
        """Token ids of each text; None where tokenizers would raise."""
        valid = [text for text in texts if _is_unicode(text)]
        ids = self._subject.encode_texts(valid) if valid else []
        rows: dict[str, NDArray[np.int32] | None] = dict.fromkeys(texts)
        rows.update(zip(valid, ids, strict=True))
        return rows

    def _refusal(self, text: str, row: NDArray[np.int32] | None) -> str | None:
        subject = self._subject
        shown = repr(text) if len(text) <= 40 else f"{text[:40]!r}…"
        limit = subject.context_length - int(subject.bos_id is not None)
        if row is None:
            return (
                f"the text {shown} holds a lone surrogate, which no tokenizer reads; leave it out"
            )
        if len(row) > limit:
            return f"the text {shown} has {len(row)} tokens and {limit} fit the context; shorten it"
        if len(row) <= subject.masked:
            first = "the first of a text does not count" if len(row) else "nothing to measure"
            return f"the text {shown} has {len(row)} tokens: {first}; write more"
        return None

    def _measure(
        self,
        askers: Mapping[str, Sequence[str]],
        rows: Mapping[str, NDArray[np.int32]],
        measured: Measured,
    ) -> None:
        texts = sorted(rows, key=lambda text: -len(rows[text]))
        names = {name for text in texts for name in askers[text]}
        hooks = sorted({self._coders[name][1] for name in names})
        for chosen in self._slices(texts, rows):
            for batch in self._subject.activations([rows[text] for text in chosen], hooks):
                measured.forward_passes += 1
                measured.texts += len(batch.rows)
                measured.tokens += sum(batch.lengths)
                shown = [chosen[row] for row in batch.rows]
                for name in names:
                    measured.readings.update(self._read(name, batch, shown, askers, rows))
                if self._stop.is_set():
                    return

    def _slices(
        self, texts: Sequence[str], rows: Mapping[str, NDArray[np.int32]]
    ) -> Iterator[Sequence[str]]:
        """Texts, longest first, in parts that make one batch each on the subject's device."""
        if self._subject.device.type != "cpu":
            yield texts
            return
        start = 0
        while start < len(texts):
            size = max(1, CPU_BATCH // (len(rows[texts[start]]) + 1))
            yield texts[start : start + size]
            start += size

    def _read(
        self,
        name: str,
        batch: Batch,
        texts: Sequence[str],
        askers: Mapping[str, Sequence[str]],
        rows: Mapping[str, NDArray[np.int32]],
    ) -> Iterator[tuple[Probe, Reading]]:
        """The readings of the texts of a batch that one coder is asked for."""
        coder, hook = self._coders[name]
        places = [place for place, text in enumerate(texts) if name in askers[text]]
        if not places:
            return
        lengths = np.array([batch.lengths[place] for place in places])
        state = batch.states[hook]
        coder.check_width(state.shape[-1], str(hook))
        state = state if len(places) == len(texts) else state[places]
        kept = _kept(lengths, state.shape[1], self._subject.masked)
        found = coder.encode_sparse(state[torch.from_numpy(kept).to(state.device)])
        readings = _split(found, kept, lengths)
        for place, (starts, latents, values) in zip(places, readings, strict=True):
            text = texts[place]
            yield Probe(name, text), Reading(rows[text], starts, latents, values)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kept(lengths: NDArray[np.int64], width: int, masked: int) -> NDArray[np.bool_]:
    """[b, t]: which positions hold a token that counts."""
    positions = np.arange(width)
    return (positions < lengths[:, None]) & (positions >= masked)


def _split(
    found: SparseActivations, kept: NDArray[np.bool_], lengths: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]]:
    """Starts, latents and values of each text, from those of all positions kept."""
    active = np.zeros(kept.shape, np.int64)
    active[kept] = torch.bincount(found.rows, minlength=int(kept.sum())).cpu().numpy()
    latents, values = found.latents.cpu().numpy(), rounded(found.values).cpu().numpy()
    low = 0
    for counts, length in zip(active, lengths, strict=True):
        starts = np.zeros(length + 1, np.int32)
        np.cumsum(counts[:length], out=starts[1:])
        high = low + int(starts[-1])
        # Copies, for a view would keep the whole batch in memory.
        yield starts, latents[low:high].copy(), values[low:high].copy()
        low = high


def rounded(values: Tensor) -> Tensor:
    """Float32 values to 12 significant bits, to the nearest: off by 2.4e-4 of each at most."""
    bits = values.contiguous().view(torch.int32) + (1 << (_DROPPED - 1))
    return (bits & -(1 << _DROPPED)).view(torch.float32)


def coder_identity(coder: SparseCoder) -> str:
    """What tells a coder's activations from another's: its weights file and what it does.

    Weights that came from no file are hashed. Folded tensors of one that did are not, for their
    last bits depend on the machine.
    """
    weights = coder.info.sha256
    if not weights:
        digest = hashlib.blake2b(digest_size=16)
        for tensor in (coder.W_enc, coder.b_enc):
            digest.update(tensor.float().cpu().contiguous().numpy().tobytes())
        weights = digest.hexdigest()
    activation = coder.activation
    options = {
        name: value for name, value in vars(activation).items() if not isinstance(value, Tensor)
    }
    kind = f"{type(activation).__name__} {options} {coder.normalisation} {coder.center}"
    return f"{weights} {coder.d_sae} {coder.W_enc.dtype} {kind}"
