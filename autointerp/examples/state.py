"""The state of a harvest: kept in memory, checkpointed on disk, and turned into a store."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from autointerp.examples.documents import TokenLog, mix, ranges
from autointerp.examples.quality import Quality, variance_explained
from autointerp.examples.reservoir import EMPTY, Entries, Reservoir
from autointerp.examples.store import GROUPS, MARKER, VERSION, ExampleStore
from autointerp.examples.tally import (
    BACKGROUND,
    Arrays,
    Chunk,
    CoderTally,
    PairLog,
    spans,
    window_keys,
)
from autointerp.latents import SPLITS, AutointerpError

TOKEN_WINDOWS = 8
OWNERS_AT_ONCE = 4096


class BackgroundSample:
    """The numbers of the windows with the smallest keys, whatever latents are active there."""

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.keys = np.zeros(0, np.uint32)
        self.numbers = np.zeros(0, np.uint32)

    def offer(self, keys: NDArray[np.uint32], numbers: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Take what belongs to the sample; returns which of the windows offered did enter."""
        keys = np.concatenate([self.keys, keys])
        numbers = np.concatenate([self.numbers, numbers])
        chosen = np.argsort(keys, kind="stable")[: self.keep]
        entered = np.zeros(len(keys), np.bool_)
        entered[chosen] = True
        entered = entered[len(self.keys) :]
        self.keys, self.numbers = keys[chosen], numbers[chosen]
        return entered


class HarvestState:
    """Everything a pass has to remember between two chunks of documents."""

    def __init__(
        self,
        directory: Path,
        settings: dict[str, Any],
        coders: Mapping[str, tuple[int, str, dict[str, Any]]],
        vocabulary: Sequence[str],
    ) -> None:
        self.directory, self.settings, self.coders = directory, settings, dict(coders)
        self.vocabulary = list(vocabulary)
        self.partial = directory / "partial"
        self.partial.mkdir(parents=True, exist_ok=True)
        saved = self._latest()
        header = json.loads((saved / "state.json").read_text()) if saved else {}
        self.generation: int = header.get("generation", 0)
        self.windows: int = header.get("windows", 0)
        self.log = TokenLog(
            directory, len(vocabulary), header.get("documents", 0), header.get("tokens", 0)
        )
        self.background = BackgroundSample(settings["examples"]["background"])
        self.tokens = Reservoir(len(vocabulary) * len(SPLITS), TOKEN_WINDOWS, detailed=False)
        self.qualities: dict[str, Quality] = {}
        self.tallies: dict[str, CoderTally] = {}
        for number, (name, (width, _, _)) in enumerate(self.coders.items()):
            arrays = _load(saved / str(number)) if saved else {}
            self.tallies[name] = self._tally(number, width, header, arrays)
        if saved:
            self._restore(_load(saved))

    @classmethod
    def finished(cls, directory: Path, settings: dict[str, Any]) -> bool:
        """Whether ``directory`` holds the finished store of just these settings."""
        marker = directory / MARKER
        if not marker.is_file():
            return False
        cls.compare(directory, json.loads(marker.read_text(encoding="utf-8"))["settings"], settings)
        return True

    @classmethod
    def resume(
        cls,
        directory: Path,
        settings: dict[str, Any],
        coders: Mapping[str, tuple[int, str, dict[str, Any]]],
        vocabulary: Sequence[str],
    ) -> HarvestState:
        """Continue from the last checkpoint in ``directory``, or begin."""
        directory.mkdir(parents=True, exist_ok=True)
        stored = directory / "collect.json"
        if stored.is_file():
            cls.compare(directory, json.loads(stored.read_text(encoding="utf-8")), settings)
        else:
            write_json(stored, settings)
        return cls(directory, settings, coders, vocabulary)

    @staticmethod
    def compare(
        directory: Path, stored: Any, wanted: Any, ignored: Collection[str] = (), path: str = ""
    ) -> None:
        """Raise an AutointerpError that names the first setting that differs."""
        if isinstance(stored, dict) and isinstance(wanted, dict):
            for key in [*stored, *(k for k in wanted if k not in stored)]:
                if key not in ignored:
                    inner = f"{path}.{key}" if path else key
                    HarvestState.compare(directory, stored.get(key), wanted.get(key), (), inner)
        elif stored != wanted:
            raise AutointerpError(
                f"{directory} was collected with {path} = {stored!r}, not {wanted!r};"
                " choose another run directory"
            )

    def append(self, chunk: Chunk, records: NDArray[np.void]) -> None:
        """Add a chunk's documents, and its windows to the reservoirs of token types."""
        records = records.copy()
        records["first_window"] += np.uint32(self.windows)
        self.log.append(chunk.tokens, records)
        self.windows += len(chunk.numbers)
        inside = np.flatnonzero(chunk.window_of >= 0)
        held = chunk.tokens[inside].astype(np.int64) << 32 | chunk.window_of[inside]
        held = np.unique(held)
        tokens, local = held >> 32, held & (2**32 - 1)
        owners = (tokens * len(SPLITS) + chunk.splits[local]).astype(np.int32)
        keys = window_keys(mix(chunk.hashes[local] ^ mix(tokens.astype(np.uint64), 3), 4))
        at = np.flatnonzero(self.tokens.admits(owners, keys))
        self.tokens.add(_bare(owners[at], keys[at], chunk.numbers[local[at]]))

    def quality(self, name: str, width: int) -> Quality:
        """The running sums of one coder's reconstruction; ``width`` is of its target."""
        return self.qualities.setdefault(name, Quality(width))

    def checkpoint(self) -> None:
        """Save everything, so that a later process continues from here."""
        self.generation += 1
        for number, tally in enumerate(self.tallies.values()):
            tally.compact(self.background.numbers)
            if tally.wants_rewrite():
                tally.rewrite(self.partial / f"pairs-{number}-{self.generation}.bin")
            tally.log.flush()
        self.log.flush()
        folder = self.partial / f"state-{self.generation}.writing"
        shutil.rmtree(folder, ignore_errors=True)
        for number, tally in enumerate(self.tallies.values()):
            _save(folder / str(number), tally.state())
        _save(folder, self._state())
        write_json(folder / "state.json", self._header())
        folder.rename(folder.with_suffix(""))
        self._remove_old()

    def finish(self, report: dict[str, Any]) -> None:
        """Write the store's files, the marker last, and remove the checkpoints."""
        for tally in self.tallies.values():
            tally.compact(self.background.numbers)
        self.tokens.compact()
        entries = [self._write_coder(number, name) for number, name in enumerate(self.tallies)]
        _save_array(self.directory / "background_windows.npy", self.background.numbers)
        _save_array(self.directory / "background_keys.npy", self.background.keys)
        offsets = np.concatenate([[0], np.cumsum(self.tokens.counts())])
        kept = self.tokens.entries(0, self.tokens.owners)
        _save_array(self.directory / "token_offsets.npy", offsets)
        _save_array(self.directory / "token_windows.npy", kept.windows)
        _save_array(self.directory / "token_keys.npy", kept.keys)
        write_json(self.directory / "vocabulary.json", self.vocabulary)
        self.log.close()
        examples = self.settings["examples"]
        window = examples["window"]
        write_json(
            self.directory / MARKER,
            {
                "version": VERSION,
                "window": window,
                "content": window * ((self.settings["context_length"] - 1) // window),
                "seed": self.settings["seed"],
                "tokens": self.log.tokens,
                "documents": self.log.documents,
                "windows": self.windows,
                "coders": entries,
                "report": report,
                "settings": self.settings,
            },
        )
        for tally in self.tallies.values():
            tally.log.close()
        shutil.rmtree(self.partial)

    def absorb(self, store: ExampleStore) -> None:
        """Add all that another store holds, its documents after ours."""
        shift = np.uint32(self.windows)
        records = store.documents.copy()
        records["first_window"] += shift
        tokens = np.fromfile(store.directory / "tokens.bin", self.log.dtype)
        self.log.append(tokens, records)
        windows = np.load(store.directory / "background_windows.npy") + shift
        self.background.offer(np.load(store.directory / "background_keys.npy"), windows)
        offsets = np.load(store.directory / "token_offsets.npy")
        owners = np.repeat(np.arange(self.tokens.owners, dtype=np.int32), np.diff(offsets))
        keys = np.load(store.directory / "token_keys.npy")
        numbers = np.load(store.directory / "token_windows.npy") + shift
        self.tokens.add(_bare(owners, keys, numbers))
        for name, tally in self.tallies.items():
            self._absorb_coder(name, tally, store, windows, shift)
        self.windows += store.header["windows"]

    def _absorb_coder(
        self,
        name: str,
        tally: CoderTally,
        store: ExampleStore,
        background: NDArray[np.uint32],
        shift: np.uint32,
    ) -> None:
        arrays = store.arrays(name)
        for counted in ("firing_count", "activation_sum", "window_count"):
            getattr(tally, counted).__iadd__(arrays[counted])
        tally.maximum = np.maximum(tally.maximum, arrays["maximum"])
        sums = np.asarray(arrays["quality"])
        if len(sums):
            self.quality(name, len(sums) - 3).sums += sums
        added = np.empty(len(arrays["background_windows"]), BACKGROUND)
        added["window"] = background[arrays["background_windows"]]
        added["latent"] = np.repeat(np.arange(tally.width), np.diff(arrays["background_offsets"]))
        added["maximum"] = arrays["background_maxima"]
        tally.background = np.concatenate([tally.background, added])
        offsets = np.asarray(arrays["entry_offsets"])
        for group, reservoir in enumerate(tally.reservoirs):
            for low in range(0, tally.width, OWNERS_AT_ONCE):
                block = offsets[low : low + OWNERS_AT_ONCE]
                reservoir.add(_stored(tally, arrays, block, group, low, shift))
        tally.compact(self.background.numbers)

    def _write_coder(self, number: int, name: str) -> dict[str, Any]:
        tally = self.tallies[name]
        folder = self.directory / "coders" / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        counts = np.stack([r.counts() for r in tally.reservoirs], 1)
        bounds = np.concatenate([[0], np.cumsum(counts)])
        at = np.arange(tally.width)[:, None] * len(GROUPS) + np.arange(len(GROUPS) + 1)
        quality = self.qualities.get(name)
        held = tally.background
        key = held["latent"].astype(np.uint64) << np.uint64(32) | held["window"]
        background = held[np.argsort(key)]
        order = np.argsort(self.background.numbers)
        slots = order[np.searchsorted(self.background.numbers, background["window"], sorter=order)]
        arrays = {
            "firing_count": tally.firing_count,
            "activation_sum": tally.activation_sum,
            "maximum": tally.maximum,
            "window_count": tally.window_count,
            "entry_offsets": bounds[at],
            "background_offsets": np.searchsorted(background["latent"], np.arange(tally.width + 1)),
            "background_windows": slots.astype(np.uint32),
            "background_maxima": background["maximum"],
            "quality": quality.sums if quality else np.zeros(0),
        }
        for key, array in arrays.items():
            _save_array(folder / f"{key}.npy", array)
        _write_entries(folder, tally, int(bounds[-1]))
        width, hook, claims = self.coders[name]
        explained = variance_explained(quality.sums) if quality else None
        return {
            "name": name,
            "hook": hook,
            "width": width,
            "claims": claims,
            "variance_explained": explained,
        }

    def _tally(self, number: int, width: int, header: dict[str, Any], arrays: Arrays) -> CoderTally:
        name = header["logs"][number] if header else f"pairs-{number}-0.bin"
        length = int(arrays["log"][0]) if arrays else 0
        examples = self.settings["examples"]
        keep = tuple(examples[f"{split}_{kind}"] for split, kind in GROUPS)
        tally = CoderTally(width, keep, PairLog(self.partial / name, length))
        if arrays:
            tally.restore(arrays)
        return tally

    def _state(self) -> Arrays:
        arrays: Arrays = {
            "background_keys": self.background.keys,
            "background_numbers": self.background.numbers,
        }
        arrays |= {f"tokens_{k}": v for k, v in self.tokens.state().items()}
        return arrays | {
            f"quality{i}": self.qualities[n].sums
            for i, n in enumerate(self.coders)
            if n in self.qualities
        }

    def _restore(self, arrays: Arrays) -> None:
        self.background.keys = arrays["background_keys"]
        self.background.numbers = arrays["background_numbers"]
        for key in self.tokens.state():
            getattr(self.tokens, key)[...] = arrays[f"tokens_{key}"]
        for i, name in enumerate(self.coders):
            if f"quality{i}" in arrays:
                sums = arrays[f"quality{i}"]
                self.quality(name, len(sums) - 3).sums = sums

    def _header(self) -> dict[str, Any]:
        return {
            "generation": self.generation,
            "documents": self.log.documents,
            "tokens": self.log.tokens,
            "windows": self.windows,
            "logs": [tally.log.path.name for tally in self.tallies.values()],
        }

    def _latest(self) -> Path | None:
        saved = [p for p in self.partial.glob("state-*") if not p.suffix]
        return max(saved, key=lambda p: int(p.name.partition("-")[2]), default=None)

    def _remove_old(self) -> None:
        current = {tally.log.path for tally in self.tallies.values()}
        for path in self.partial.iterdir():
            if path.is_dir() and path.name != f"state-{self.generation}":
                shutil.rmtree(path)
            elif path.suffix == ".bin" and path not in current:
                path.unlink()


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file at once, so that no reader ever sees half of it."""
    writing = path.with_name(path.name + ".writing")
    with writing.open("w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=True)
        file.flush()
        os.fsync(file.fileno())
    writing.replace(path)


def _write_entries(folder: Path, tally: CoderTally, total: int) -> None:
    """Write kept windows latent by latent, group by group, each group by key."""
    pairs = tally.log.read()
    live = sum(int(r.lengths[r.keys < EMPTY].sum(dtype=np.int64)) for r in tally.reservoirs)
    shapes = {
        "entry_keys": (np.uint32, total),
        "entry_windows": (np.uint32, total),
        "entry_maxima": (np.float32, total),
        "pair_offsets": (np.int64, total + 1),
        "positions": (np.uint8, live),
        "values": (np.float32, live),
    }
    with ExitStack() as opened:
        write = {
            name: opened.enter_context(_npy(folder / f"{name}.npy", dtype, (size,)))
            for name, (dtype, size) in shapes.items()
        }
        write["pair_offsets"](np.zeros(1))
        pair = 0
        for low in range(0, tally.width, OWNERS_AT_ONCE):
            kept = _block(tally, low, low + OWNERS_AT_ONCE)
            counts, at = spans(kept.pairs)
            write["entry_keys"](kept.keys)
            write["entry_windows"](kept.windows)
            write["pair_offsets"](pair + np.cumsum(counts))
            write["positions"](pairs["position"][at])
            values = pairs["value"][at]
            write["values"](values)
            if len(at):  # a kept window has an activation
                starts = np.cumsum(counts) - counts
                write["entry_maxima"](np.maximum.reduceat(values, starts))
            pair += len(at)


@contextmanager
def _npy(
    path: Path, dtype: DTypeLike, shape: tuple[int, ...]
) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Write an .npy file part by part, through what is given, with plain writes.

    On a full disk numpy's own ways either kill the process, where the file is a memory map, or
    raise an error that does not say that the disk is full.
    """
    with path.open("wb") as file:
        descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)

        def write(part: NDArray[Any]) -> None:
            file.write(np.ascontiguousarray(part, dtype).data)

        yield write


def _save_array(path: Path, array: NDArray[Any]) -> None:
    with _npy(path, array.dtype, array.shape) as write:
        write(array)


def _block(tally: CoderTally, low: int, high: int) -> Entries:
    parts = [reservoir.entries(low, high) for reservoir in tally.reservoirs]
    groups = np.repeat(np.arange(len(parts)), [len(p.owners) for p in parts])
    joined = Entries.join(parts)
    return joined.take(np.lexsort((groups, joined.owners)))


def _stored(
    tally: CoderTally,
    arrays: Mapping[str, Any],
    block: NDArray[np.int64],
    group: int,
    low: int,
    shift: np.uint32,
) -> Entries:
    """One group's entries of a block of latents of a finished store; copies their pairs."""
    counts = block[:, group + 1] - block[:, group]
    at = ranges(block[:, group], counts)
    first = arrays["pair_offsets"][at]
    lengths = arrays["pair_offsets"][at + 1] - first
    pairs = ranges(first, lengths)
    places = tally.log.append(arrays["positions"][pairs], arrays["values"][pairs], lengths)
    owners = np.repeat(np.arange(low, low + len(block), dtype=np.int32), counts)
    windows = arrays["entry_windows"][at] + shift
    return Entries(owners, arrays["entry_keys"][at], windows, places)


def _bare(
    owners: NDArray[np.int32], keys: NDArray[np.uint32], windows: NDArray[np.uint32]
) -> Entries:
    return Entries(owners, keys, windows, np.zeros(len(owners), np.int64))


def _save(folder: Path, arrays: Arrays) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        _save_array(folder / f"{name}.npy", array)


def _load(folder: Path) -> Arrays:
    return {path.stem: np.load(path) for path in folder.glob("*.npy")}
