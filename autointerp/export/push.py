"""Uploading an exported run: what is missing, in commits, and again from where it stopped.

What is done is read from the repository itself before every commit, so that a push that was
killed, or whose answer was lost, goes on without sending a file again that is there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autointerp.export.card import CARD, card
from autointerp.export.remote import Held, Local, PassingTrouble, Remote
from autointerp.export.shards import DATA
from autointerp.export.whole import fingerprint
from autointerp.latents import AutointerpError
from autointerp.pipeline.published import MANIFEST

FILES_A_COMMIT = 50
BYTES_A_COMMIT = 2**31
ATTEMPTS = 6  # without any progress
FIRST_WAIT = 2.0  # seconds; twice as long each time
LAST = (CARD, MANIFEST)  # a repository that has them has everything
_OWN = frozenset({CARD, MANIFEST, ".gitattributes"})

Observe = Callable[[str, int, int], None]
Document = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What a push will do: which files it sends, and which it deletes since they are no more."""

    remote: Remote
    exists: bool
    public: bool
    license: str
    examples: bool
    files: list[Local]
    sent: list[Local]
    deleted: list[str]

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.sent or self.deleted)


def plan(folder: Path, remote: Remote, *, public: bool) -> Plan:
    """Look what of an exported run is missing in the repository.

    Raises:
        AutointerpError: if the repository holds other things, or is not as private as asked for.
        PassingTrouble: if the hub cannot be reached.
    """
    manifest = _with_card(folder, remote.name)
    files = _files(folder, manifest)
    held = remote.held()
    _check_visibility(remote, held, public)
    _check_own(remote, held, files)
    return Plan(
        remote=remote,
        exists=held.private is not None,
        public=public,
        license=manifest["config"]["corpus"]["license"],
        examples=manifest["examples"],
        files=files,
        sent=_missing(files, held),
        deleted=_stale(files, held),
    )


def _with_card(folder: Path, name: str) -> Document:
    """The manifest; the card beside it gets the repository's name."""
    manifest: Document = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    (folder / CARD).write_text(card(manifest, name), encoding="utf-8")
    return manifest


def _files(folder: Path, manifest: Document) -> list[Local]:
    """Everything to be there, in the order of sending."""
    known = {**manifest["files"], **{name: fingerprint(folder / name) for name in LAST}}
    return [
        Local(name, folder / name, known[name]["bytes"], known[name]["sha256"])
        for name in [*sorted(manifest["files"]), *LAST]
    ]


def _check_visibility(remote: Remote, held: Held, public: bool) -> None:
    if held.private is None or held.private is not public:
        return
    if public:
        raise AutointerpError(
            f"{remote.name} is private; make it public on its page, or leave --public out"
        )
    raise AutointerpError(f"{remote.name} is public; say --public if that is meant")


def _check_own(remote: Remote, held: Held, files: list[Local]) -> None:
    """Refuse a repository of something else; a push that was interrupted left only our files."""
    names = {file.name for file in files}
    others = sorted(set(held.files) - names - _OWN)
    if others and MANIFEST not in held.files:
        raise AutointerpError(
            f"{remote.name} holds other files, as {others[0]}; choose another --repo"
        )


def _missing(files: list[Local], held: Held) -> list[Local]:
    return [f for f in files if f.name not in held.files or not f.is_there(held.files[f.name])]


def _stale(files: list[Local], held: Held) -> list[str]:
    """Tables of an earlier push that the run has no more."""
    names = {file.name for file in files}
    return sorted(n for n in held.files if n.startswith(f"{DATA}/") and n not in names)


def push(
    plan: Plan,
    observe: Observe,
    *,
    files_a_commit: int = FILES_A_COMMIT,
    wait: Callable[[float], None] = time.sleep,
) -> Document:
    """Do what the plan says, and look that the repository then holds what it should.

    Raises:
        AutointerpError: if the hub refuses, or fails too often; what is there stays, and the next
            push goes on from it.
    """
    pushing = _Pushing(plan, observe, files_a_commit)
    trouble = 0
    while True:
        before = pushing.commits
        try:
            pushing.go_on()
            return pushing.document()
        except PassingTrouble as error:
            trouble = 1 if pushing.commits > before else trouble + 1
            if trouble == ATTEMPTS:
                raise AutointerpError(f"{error}; the same command goes on from here") from error
            wait(FIRST_WAIT * 2 ** (trouble - 1))


@dataclass
class _Pushing:
    """One push, over as many tries as it takes."""

    plan: Plan
    observe: Observe
    files_a_commit: int
    commits: int = 0
    _sent: set[str] = field(default_factory=set)

    def go_on(self) -> None:
        """Send what is missing, from whatever state the repository is in."""
        remote, files = self.plan.remote, self.plan.files
        held = remote.held()
        if held.private is None:
            remote.create(public=self.plan.public)
        for group in self._groups():
            missing = _missing(group, held)
            last = group[-1].name in LAST
            stale = _stale(files, held) if last else []
            if missing or stale:
                self._commit(missing, stale, last)
                held = remote.held()
            self.observe("push", len(files) - len(_missing(files, held)), len(files))
        left = [file.name for file in _missing(files, held)]
        if left:
            raise PassingTrouble(f"{remote.name} does not show {left[0]} as it was sent")

    def _commit(self, missing: list[Local], stale: list[str], last: bool) -> None:
        message = "Card and manifest" if last else f"{missing[0].name} and {len(missing) - 1} more"
        self._sent |= {file.name for file in missing}
        self.plan.remote.commit(missing, stale, message)
        self.commits += 1

    def _groups(self) -> Iterator[list[Local]]:
        """The files of each commit: the same ones whatever was sent before."""
        group: list[Local] = []
        for file in self.plan.files[: -len(LAST)]:
            full = sum(f.bytes for f in group) + file.bytes > BYTES_A_COMMIT
            if group and (full or len(group) == self.files_a_commit):
                yield group
                group = []
            group.append(file)
        if group:
            yield group
        yield self.plan.files[-len(LAST) :]

    def document(self) -> Document:
        files = self.plan.files
        sent = [file.bytes for file in files if file.name in self._sent]
        return {
            "repo": self.plan.remote.name,
            "url": self.plan.remote.url,
            "private": not self.plan.public,
            "files": len(files),
            "bytes": sum(file.bytes for file in files),
            "sent": len(sent),
            "sent_bytes": sum(sent),
            "deleted": len(self.plan.deleted),
            "commits": self.commits,
        }
