"""What a harvest leaves behind: windows, activations and statistics of every latent, on disk.

Everything is memory-mapped and laid out by latent, so that reading one latent costs the same
whatever the size of the corpus and the number of latents.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from autointerp.examples.documents import DOCUMENT, LEFT_CONTEXT, Geometry, ranges, token_dtype
from autointerp.latents import SPLITS, AutointerpError, Background, LatentId, Split

Kind = Literal["top", "sampled"]
GROUPS: tuple[tuple[Split, Kind], ...] = (
    ("explain", "top"),
    ("explain", "sampled"),
    ("select", "sampled"),
    ("test", "sampled"),
)
VERSION = 1
MARKER = "store.json"
CODER_ARRAYS = (
    "firing_count",
    "activation_sum",
    "maximum",
    "window_count",
    "entry_offsets",
    "entry_keys",
    "entry_windows",
    "entry_maxima",
    "pair_offsets",
    "positions",
    "values",
    "background_offsets",
    "background_windows",
    "background_maxima",
    "quality",
)


@dataclass(frozen=True, eq=False)
class CoderRecord:
    """One coder of a store, and how well it reads the subject.

    ``l0`` is the mean number of active latents a token, ``variance_explained`` the share of
    the variance of the tensor it reconstructs (of a sample of tokens; None if not measured),
    ``claims`` what the checkpoint's metadata says of the same things. ``dead`` latents fired
    on no token, ``rare`` ones in fewer than ten windows of any split.
    """

    name: str
    hook: str
    width: int
    l0: float
    variance_explained: float | None
    alive: int
    dead: int
    rare: int
    density: NDArray[np.float64]  # [width], share of tokens
    claims: dict[str, Any]


@dataclass(frozen=True, eq=False)
class LatentStatistics:
    """Counts over every token of the corpus, one entry a latent of one coder."""

    tokens: int
    firing_count: NDArray[np.int64]  # [width]
    maximum: NDArray[np.float32]  # [width]
    sum: NDArray[np.float64]  # [width]
    window_count: NDArray[np.int64]  # [width, 3]: active whole windows a split, as SPLITS


@dataclass(frozen=True, eq=False)
class Windows:
    """Kept windows of one latent. ``top``: descending maxima; ``sampled``: in hash order,
    so that every prefix is itself a uniform sample."""

    documents: NDArray[np.int64]  # [k]
    starts: NDArray[np.int64]  # [k], in tokens of the document
    maxima: NDArray[np.float32]  # [k]
    peaks: NDArray[np.intp]  # [k], where in the window the maximum is first reached
    activations: NDArray[np.float32]  # [k, window]

    def __len__(self) -> int:
        return len(self.documents)


class ExampleStore:
    """The examples of a run. Open with :meth:`open`; all arrays are memory-mapped."""

    def __init__(self, directory: Path, header: dict[str, Any]) -> None:
        self.directory = directory
        self.header = header
        self.window: int = header["window"]
        self.seed: int = header["seed"]
        self.token_count: int = header["tokens"]
        self.geometry = Geometry(header["window"], header["content"])
        self.vocabulary: list[str] = json.loads(
            (directory / "vocabulary.json").read_text(encoding="utf-8")
        )
        self.documents = np.fromfile(directory / "documents.bin", DOCUMENT)
        self.document_split: NDArray[np.int8] = self.documents["split"].astype(np.int8)
        self._first_window = self.documents["first_window"].astype(np.int64)
        self._offset = self.documents["offset"].astype(np.int64)
        self._length = self.documents["length"].astype(np.int64)
        self._head = self.documents["head"].astype(np.int64)
        self._tokens: NDArray[np.uint32] = _map_tokens(
            directory / "tokens.bin", token_dtype(len(self.vocabulary))
        )
        self._arrays = {
            entry["name"]: _load_coder(directory / "coders" / str(number))
            for number, entry in enumerate(header["coders"])
        }
        self._backgrounds: dict[Split, tuple[Background, NDArray[np.int64]]] = {}

    @classmethod
    def open(cls, directory: Path | str) -> ExampleStore:
        """Open the finished store in ``directory``.

        Raises:
            AutointerpError: if there is none, or it is unfinished or of another version.
        """
        directory = Path(directory)
        marker = directory / MARKER
        if not marker.is_file():
            raise AutointerpError(f"no finished examples in {directory}; run `autointerp collect`")
        header = json.loads(marker.read_text(encoding="utf-8"))
        if header["version"] != VERSION:
            raise AutointerpError(
                f"{marker} has version {header['version']}, this program reads {VERSION};"
                " collect again"
            )
        return cls(directory, header)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the documents that were read, in order."""
        hashes = np.ascontiguousarray(self.documents["hash"])
        return hashlib.blake2b(hashes.tobytes(), digest_size=16).hexdigest()

    @property
    def window_count(self) -> int:
        """Whole windows of all documents."""
        if not len(self.documents):
            return 0
        last = self.documents[-1]
        more = self.geometry.windows(int(last["length"]), int(last["head"]))
        return int(last["first_window"]) + more

    @cached_property
    def coders(self) -> dict[str, CoderRecord]:
        """The coders of the store by name."""
        return {entry["name"]: self._record(entry) for entry in self.header["coders"]}

    def _record(self, entry: dict[str, Any]) -> CoderRecord:
        arrays = self._arrays[entry["name"]]
        firing = np.asarray(arrays["firing_count"])
        alive = firing > 0
        rare = alive & (np.asarray(arrays["window_count"]).sum(1) < 10)
        return CoderRecord(
            name=entry["name"],
            hook=entry["hook"],
            width=len(firing),
            l0=float(firing.sum() / max(1, self.token_count)),
            variance_explained=entry["variance_explained"],
            alive=int(alive.sum()),
            dead=int((~alive).sum()),
            rare=int(rare.sum()),
            density=firing / max(1, self.token_count),
            claims=entry["claims"],
        )

    def tokens(self, document: int) -> NDArray[np.int32]:
        """All token ids of a document, BOS not among them."""
        start = self._offset[document]
        return self._tokens[start : start + self._length[document]].astype(np.int32)

    def window_tokens(
        self, documents: NDArray[np.int64], starts: NDArray[np.int64]
    ) -> NDArray[np.int32]:
        """Token ids [n, window] of many windows at once."""
        return self._runs(self._offset[documents] + starts, self.window)

    def left_tokens(
        self, documents: NDArray[np.int64], starts: NDArray[np.int64]
    ) -> NDArray[np.int32]:
        """The up to 32 token ids before each window in its row, [n, 32], padded with −1."""
        begins = self._offset[documents] + starts - LEFT_CONTEXT
        left = self._runs(np.maximum(begins, 0), LEFT_CONTEXT)
        for row in np.flatnonzero(begins < 0).tolist():  # nothing lies before the first token
            left[row] = np.roll(left[row], -int(begins[row]))
        missing = LEFT_CONTEXT - (starts - self.row_starts(documents, starts))
        np.putmask(left, np.arange(LEFT_CONTEXT) < missing[:, None], -1)
        return left

    def _runs(self, begins: NDArray[np.int64], length: int) -> NDArray[np.int32]:
        """The ``length`` tokens from each place of the token file: [n, length]."""
        if len(self._tokens) < length:
            return np.zeros((len(begins), length), np.int32)
        runs: NDArray[np.int32] = sliding_window_view(self._tokens, length)[begins].astype(np.int32)
        return runs

    def row_start(self, document: int, start: int) -> int:
        """The first token of the row in which the subject read the document's token ``start``."""
        return self.geometry.row_start(int(self._head[document]), start)

    def row_starts(
        self, documents: NDArray[np.int64], starts: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """:meth:`row_start` of many positions."""
        window, content = self.geometry.window, self.geometry.content
        head = self._head[documents]
        first = head + window * ((content - head) // window)
        return np.where(starts < first, 0, first + (starts - first) // content * content)

    def statistics(self, coder: str) -> LatentStatistics:
        """Counts of every latent of one coder."""
        arrays = self._coder(coder)
        return LatentStatistics(
            self.token_count,
            arrays["firing_count"],
            arrays["maximum"],
            arrays["activation_sum"],
            arrays["window_count"],
        )

    def windows(self, latent: LatentId, split: Split, kind: Kind) -> Windows:
        """The kept windows of a latent. ``top`` exists for the EXPLAIN split only.

        Raises:
            AutointerpError: if the latent is not in the store.
        """
        return self.windows_of([latent], split, kind)[0]

    def windows_of(
        self, latents: Sequence[LatentId], split: Split, kind: Kind
    ) -> tuple[Windows, NDArray[np.int64]]:
        """:meth:`windows` of several latents of one coder, one latent after the other; and the
        bounds of each latent's: [latents + 1]."""
        for latent in latents:
            arrays = self._latent(latent)
        indices = np.array([latent.index for latent in latents])
        offsets = arrays["entry_offsets"]
        group = GROUPS.index((split, kind))
        lows = offsets[indices, group].astype(np.int64)
        counts = offsets[indices, group + 1].astype(np.int64) - lows
        entries = ranges(lows, counts)
        documents, starts = self.address(arrays["entry_windows"][entries])
        maxima = arrays["entry_maxima"][entries]
        windows = Windows(documents, starts, maxima, *self._dense(arrays, entries, maxima))
        return windows, np.concatenate([[0], np.cumsum(counts)])

    def _dense(
        self, arrays: dict[str, Any], entries: NDArray[np.int64], maxima: NDArray[np.float32]
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Where each entry peaks, and its activations."""
        lows = arrays["pair_offsets"][entries].astype(np.int64)
        counts = arrays["pair_offsets"][entries + 1].astype(np.int64) - lows
        pairs = ranges(lows, counts)
        rows = np.repeat(np.arange(len(entries)), counts)
        positions, values = arrays["positions"][pairs], arrays["values"][pairs]
        dense = np.zeros((len(entries), self.window), np.float32)
        dense[rows, positions] = values
        highest = np.flatnonzero(values == maxima[rows])[::-1]  # of equals the first is set last
        peaks = np.zeros(len(entries), np.intp)
        peaks[rows[highest]] = positions[highest]
        return peaks, dense

    def address(
        self, windows: NDArray[np.unsignedinteger]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The documents and starts of numbered windows (numbers count whole windows)."""
        numbers = np.asarray(windows, np.int64)
        documents = np.searchsorted(self._first_window, numbers, side="right") - 1
        starts = self._head[documents] + (numbers - self._first_window[documents]) * self.window
        return documents.astype(np.int64), starts

    def background(self, split: Split) -> Background:
        """The shared random windows of one split. The same object on every call."""
        return self._background(split)[0]

    def background_maxima(self, latent: LatentId, split: Split) -> NDArray[np.float32]:
        """The latent's maximum in each window of ``background(split)``, 0 where inactive: [n].

        Raises:
            AutointerpError: if the latent is not in the store.
        """
        maxima: NDArray[np.float32] = self.background_maxima_of([latent], split)[0]
        return maxima

    def background_maxima_of(
        self, latents: Sequence[LatentId], split: Split
    ) -> NDArray[np.float32]:
        """:meth:`background_maxima` of several latents of one coder: [latents, n]."""
        for latent in latents:
            arrays = self._latent(latent)
        background, slots = self._background(split)
        indices = np.array([latent.index for latent in latents])
        lows = arrays["background_offsets"][indices].astype(np.int64)
        counts = arrays["background_offsets"][indices + 1].astype(np.int64) - lows
        entries = ranges(lows, counts)
        rows = np.repeat(np.arange(len(latents)), counts)
        at = slots[arrays["background_windows"][entries]]
        mine = at >= 0
        maxima = np.zeros((len(latents), len(background.documents)), np.float32)
        maxima[rows[mine], at[mine]] = arrays["background_maxima"][entries[mine]]
        return maxima

    def _background(self, split: Split) -> tuple[Background, NDArray[np.int64]]:
        if split not in self._backgrounds:
            documents, starts = self.address(self._background_windows)
            mine = self.document_split[documents] == SPLITS.index(split)
            slots = np.where(mine, np.cumsum(mine) - 1, -1)
            documents, starts = documents[mine], starts[mine]
            sample = Background(
                documents,
                starts,
                self.window_tokens(documents, starts),
                self.left_tokens(documents, starts),
                self.vocabulary,
            )
            self._backgrounds[split] = (sample, slots)
        return self._backgrounds[split]

    @cached_property
    def _background_windows(self) -> NDArray[np.uint32]:
        return cast(NDArray[np.uint32], np.load(self.directory / "background_windows.npy"))

    @cached_property
    def _token_index(self) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        return (
            np.load(self.directory / "token_offsets.npy", mmap_mode="r"),
            np.load(self.directory / "token_windows.npy", mmap_mode="r"),
        )

    def token_windows(
        self, token: int, split: Split
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Documents and starts of up to 8 random windows of ``split`` that hold ``token``."""
        offsets, windows = self._token_index
        slot = token * len(SPLITS) + SPLITS.index(split)
        return self.address(windows[offsets[slot] : offsets[slot + 1]])

    def arrays(self, coder: str) -> dict[str, Any]:
        """The raw arrays of one coder, as CODER_ARRAYS names them. For merging."""
        return self._coder(coder)

    def _coder(self, name: str) -> dict[str, Any]:
        if name not in self._arrays:
            raise AutointerpError(
                f"no coder {name!r} in {self.directory}; it has {list(self._arrays)}"
            )
        return self._arrays[name]

    def _latent(self, latent: LatentId) -> dict[str, Any]:
        arrays = self._coder(latent.coder)
        width = len(arrays["firing_count"])
        if not 0 <= latent.index < width:
            raise AutointerpError(f"latent {latent} is out of range; {latent.coder} has {width}")
        return arrays


def _map_tokens(path: Path, dtype: np.dtype[np.unsignedinteger]) -> Any:
    mapped = np.memmap(path, dtype, mode="r") if path.stat().st_size else np.zeros(0, dtype)
    return np.asarray(mapped)


def _load_coder(directory: Path) -> dict[str, Any]:
    # asarray keeps the mapping and drops the memmap class, whose every index is slow.
    return {
        name: np.asarray(np.load(directory / f"{name}.npy", mmap_mode="r")) for name in CODER_ARRAYS
    }
