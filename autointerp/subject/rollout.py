"""Steered forward passes: rows of many directions and prompts, a token at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from autointerp.subject.direction import Direction
from autointerp.subject.directions import Directions
from autointerp.subject.model import Subject
from autointerp.subject.prefixes import Prefixes, Prompt
from autointerp.subject.pushes import Push, Watcher, watched


class Row(NamedTuple):
    """One prompt, steered one way; ``s`` not a number takes the latent's own part away."""

    prompt: Prompt
    direction: Direction | None = None
    s: float = 0.0
    temperature: float = 1.0
    noise: tuple[int, ...] = ()  # where in the table of noise each step's begins


class Rollout:
    """Rows that go through the subject together, a token a step.

    Rows of one prompt stand side by side in one line of the batch, as tokens at one position
    that see the prompt's cache and their own row's earlier tokens, not each other.
    """

    def __init__(
        self,
        subject: Subject,
        directions: Directions,
        lines: Sequence[Sequence[Row]],
        prefixes: Prefixes,
    ) -> None:
        self._subject = subject
        self.rows = [row for line in lines for row in line]
        self._shape = len(lines), max(map(len, lines))
        cells = [i * self._shape[1] + j for i, line in enumerate(lines) for j in range(len(line))]
        self._cells = torch.tensor(cells, device=subject.device)
        read = prefixes.read([line[0].prompt for line in lines])
        self._prefixes = [read[line[0].prompt] for line in lines]
        self._cache = prefixes.cache(self._prefixes)
        self._lengths = torch.tensor([p.length for p in self._prefixes], device=subject.device)
        self._steps = 0
        self._pushes = self._made(directions)

    @property
    def last(self) -> Tensor:
        """The last token of each row's prompt: [rows]."""
        own = {line: prefix.last for line, prefix in enumerate(self._prefixes)}
        return torch.tensor([own[i // self._shape[1]] for i in self._cells.tolist()])

    def step(self, ids: Tensor, watchers: Sequence[Watcher] = ()) -> Tensor:
        """Read one more token a row, ids [rows]; the logits after it are [rows, vocabulary]."""
        filled = torch.zeros(self._shape[0] * self._shape[1], dtype=torch.long)
        filled = filled.to(self._subject.device)
        filled[self._cells] = ids.to(filled.device)
        positions = (self._lengths[:, None] + self._steps).expand(self._shape)
        self._steps += 1
        with watched(self._subject, [*self._pushes, *watchers]), torch.inference_mode():
            logits: Tensor = self._subject.model(
                input_ids=filled.view(self._shape),
                attention_mask=self._mask(),
                position_ids=positions,
                past_key_values=self._cache,
                use_cache=True,
            ).logits
        flat = logits.flatten(0, 1)
        return (flat if len(flat) == len(self.rows) else flat[self._cells.to(flat.device)]).float()

    def _mask(self) -> Tensor:
        """What each token does not see, as numbers to add: [lines, 1, width, keys]."""
        lines, width = self._shape
        device = self._subject.device
        longest = int(self._lengths.max())
        before = torch.arange(longest, device=device) < self._lengths[:, None]
        own = torch.eye(width, dtype=torch.bool, device=device).repeat(1, self._steps)
        seen = torch.cat([before[:, None].expand(-1, width, -1), own.expand(lines, -1, -1)], dim=2)
        hidden = torch.finfo(self._subject.dtype).min
        mask = torch.zeros(seen.shape, dtype=self._subject.dtype, device=device)
        return mask.masked_fill_(~seen, hidden)[:, None]

    def _made(self, directions: Directions) -> list[Push]:
        """A push for every coder that some row is steered by."""
        coders: dict[str, list[int]] = {}
        for i, row in enumerate(self.rows):
            if row.direction is not None:
                coders.setdefault(row.direction.latent.coder, []).append(i)
        return [self._push(directions, name, own) for name, own in sorted(coders.items())]

    def _push(self, directions: Directions, name: str, own: Sequence[int]) -> Push:
        device = self._subject.device
        wanted = [row.direction for i in own if (row := self.rows[i]).direction]
        distinct = {direction: i for i, direction in enumerate(dict.fromkeys(wanted))}
        vectors = torch.stack([directions.vector(direction) for direction in distinct])
        return Push(
            directions.places[name],
            self._cells[torch.tensor(own, device=device)],
            vectors[torch.tensor([distinct[d] for d in wanted], device=vectors.device)],
            torch.tensor([self.rows[i].s for i in own], device=device),
            torch.tensor([d.latent.index for d in wanted], device=device),
        )
