"""Rows to steer, in batches that fit the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from autointerp.latents import AutointerpError
from autointerp.subject.directions import Directions
from autointerp.subject.model import Subject
from autointerp.subject.prefixes import Prefixes, Prompt
from autointerp.subject.rollout import Rollout, Row

ROWS = {"cpu": 256, "cuda": 2048}  # of a batch
WIDTH = 16  # rows that share a prompt's cache, at most: each pays for the keys of the others
MOST_LOGITS = 2**27  # numbers in the output of one forward pass


class Batches:
    """Makes rollouts of rows: those of one prompt in a line, and lines of like size together."""

    def __init__(self, subject: Subject, directions: Directions) -> None:
        self._subject, self._directions = subject, directions
        self._prefixes = Prefixes(subject)
        most = MOST_LOGITS // len(subject.vocabulary)
        self._most = max(1, min(most, ROWS.get(subject.device.type, ROWS["cuda"])))

    def rollout(self, lines: Sequence[Sequence[Row]]) -> Rollout:
        """One batch of lines of rows, a prompt a line."""
        return Rollout(self._subject, self._directions, lines, self._prefixes)

    def each(
        self,
        rows: Sequence[Row],
        tokens: int,
        use: Callable[[Rollout, Sequence[int]], None],
        places: Sequence[int] | None = None,
    ) -> None:
        """Hand rows to ``use`` in batches, with their places among ``rows``.

        A batch that does not fit the device's memory is retried in halves, and later batches
        stay that small.
        """
        pending = list(range(len(rows)) if places is None else places)
        while pending:
            for lines in self._lines(rows, pending, tokens):
                chosen = [place for line in lines for place in line]
                try:
                    use(self.rollout([[rows[place] for place in line] for line in lines]), chosen)
                except torch.OutOfMemoryError as error:
                    if len(chosen) == 1:
                        raise self.too_large() from error
                    self._most = len(chosen) // 2
                    break
                done = set(chosen)
                pending = [place for place in pending if place not in done]

    def too_large(self) -> AutointerpError:
        """What to raise where one row does not fit."""
        return AutointerpError(
            f"steering one prompt does not fit on {self._subject.device}; use shorter prompts"
        )

    def _lines(
        self, rows: Sequence[Row], pending: Sequence[int], tokens: int
    ) -> Iterator[list[list[int]]]:
        """Places in lines of one prompt each, and lines of like size in batches."""
        width = min(WIDTH, self._most)
        by_prompt: dict[Prompt, list[int]] = {}
        for place in pending:
            by_prompt.setdefault(rows[place].prompt, []).append(place)
        lines = [
            own[low : low + width]
            for own in by_prompt.values()
            for low in range(0, len(own), width)
        ]
        lines.sort(key=lambda line: (-len(line), -len(rows[line[0]].prompt)))
        start = 0
        while start < len(lines):
            first = lines[start]
            keys = len(rows[first[0]].prompt) // 4 + 1 + tokens * len(first)
            count = min(self._most // len(first), self._subject.batch_tokens // keys)
            yield lines[start : start + max(1, count)]
            start += max(1, count)
