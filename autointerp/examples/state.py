"""The state of a harvest: kept in memory, checkpointed on disk, and turned into a store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.documents import TokenLog, mix
from autointerp.examples.files import load_arrays, save_array, save_arrays, write_json
from autointerp.examples.quality import Quality, variance_explained
from autointerp.examples.reservoir import Entries, Reservoir
from autointerp.examples.store import GROUPS, MARKER, VERSION
from autointerp.examples.tally import (
    Arrays,
    Chunk,
    CoderTally,
    PairLog,
    window_keys,
)
from autointerp.examples.writing import write_tally
from autointerp.latents import SPLITS, AutointerpError

TOKEN_WINDOWS = 8


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
            arrays = load_arrays(saved / str(number)) if saved else {}
            self.tallies[name] = self._tally(number, width, header, arrays)
        if saved:
            self._restore(load_arrays(saved))

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
        self.tokens.add(bare_entries(owners[at], keys[at], chunk.numbers[local[at]]))

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
            save_arrays(folder / str(number), tally.state())
        save_arrays(folder, self._state())
        write_json(folder / "state.json", self._header())
        folder.rename(folder.with_suffix(""))
        self._remove_old()

    def finish(self, report: dict[str, Any]) -> None:
        """Write the store's files, the marker last, and remove the checkpoints."""
        for tally in self.tallies.values():
            tally.compact(self.background.numbers)
        self.tokens.compact()
        for number, (name, tally) in enumerate(self.tallies.items()):
            folder = self.directory / "coders" / str(number)
            write_tally(folder, tally, self.background.numbers, self.qualities.get(name))
        save_array(self.directory / "background_windows.npy", self.background.numbers)
        save_array(self.directory / "background_keys.npy", self.background.keys)
        offsets = np.concatenate([[0], np.cumsum(self.tokens.counts())])
        kept = self.tokens.entries(0, self.tokens.owners)
        save_array(self.directory / "token_offsets.npy", offsets)
        save_array(self.directory / "token_windows.npy", kept.windows)
        save_array(self.directory / "token_keys.npy", kept.keys)
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
                "coders": [self._entry(name) for name in self.coders],
                "report": report,
                "settings": self.settings,
            },
        )
        for tally in self.tallies.values():
            tally.log.close()
        shutil.rmtree(self.partial)

    def _entry(self, name: str) -> dict[str, Any]:
        width, hook, claims = self.coders[name]
        quality = self.qualities.get(name)
        return {
            "name": name,
            "hook": hook,
            "width": width,
            "claims": claims,
            "variance_explained": variance_explained(quality.sums.high) if quality else None,
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
            f"quality{i}": np.stack([self.qualities[n].sums.high, self.qualities[n].sums.low])
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
                high, low = arrays[f"quality{i}"]
                sums = self.quality(name, len(high) - 3).sums
                sums.high[...], sums.low[...] = high, low

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


def bare_entries(
    owners: NDArray[np.int32], keys: NDArray[np.uint32], windows: NDArray[np.uint32]
) -> Entries:
    return Entries(owners, keys, windows, np.zeros(len(owners), np.int64))
