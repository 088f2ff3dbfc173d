"""What steering asks of the subject, answered in few, full batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autointerp.latents import AutointerpError
from autointerp.statistics import derived_generator
from autointerp.subject.batches import Batches
from autointerp.subject.directions import Coders, Directions
from autointerp.subject.model import Subject
from autointerp.subject.prefixes import Kept, Prompt
from autointerp.subject.pushes import Gauge, Peak
from autointerp.subject.reasons import first_line
from autointerp.subject.rollout import Rollout, Row

NOISES = 2**21  # places in the table of noise where a step's may begin
CLEAN_MEMORY = 2**29  # bytes of clean next-token distributions kept
_SAME, _SAME_IN_HALF = 1e-4, 0.05  # nats between two ways to the same distribution


@dataclass(frozen=True, eq=False)
class Clean:
    """What the subject does after a prompt when nothing is added."""

    log_probabilities: Tensor  # [vocabulary]
    sizes: dict[str, float]  # by coder: what s·‖vector‖ must be to be as large as the state


@dataclass(frozen=True, eq=False)
class Ask:
    """One caller's rows and what is wanted of each.

    ``unit``: the strength at which what is added is as large as what it is added to. ``peak``: the
    largest activation, in size, of any latent of the coder at the last token. ``kl``:
    KL(clean ‖ steered) of the next token, in nats. ``next``: log-probabilities [vocabulary] of
    the next token. ``text``: a sampled continuation of at most ``tokens`` tokens.
    """

    want: Literal["unit", "peak", "kl", "next", "text"]
    rows: tuple[Row, ...]
    tokens: int = 1


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p ‖ q) in nats of log-probabilities [..., vocabulary]: [...]."""
    return (p.exp() * (p - q)).sum(-1).clamp(min=0)


def open_engine(
    subject: Subject, attached: Coders, texts: Sequence[NDArray[np.int32]], seed: int
) -> Engine:
    """An engine whose random directions mix what the subject does on ``texts``."""
    return Engine(subject, Directions(subject, attached, texts, seed), seed)


class Engine:
    """Answers lots of asks, in one thread."""

    def __init__(self, subject: Subject, directions: Directions, seed: int) -> None:
        self._subject, self._directions, self._seed = subject, directions, seed
        self._batches = Batches(subject, directions)
        self._clean: Kept[Clean] = Kept(CLEAN_MEMORY)
        self._tables: dict[int, Tensor] = {}  # by size of vocabulary
        self._checked = 0  # bytes of the longest prompt on which caches were found to work

    def answer(self, asks: Sequence[Ask]) -> list[Any]:
        """An answer a row to each ask: [rows] numbers, [rows, vocabulary], or token ids."""
        answers: dict[Ask, Any] = {}
        for want, tokens in dict.fromkeys((ask.want, ask.tokens) for ask in asks):
            alike = [ask for ask in asks if (ask.want, ask.tokens) == (want, tokens)]
            rows = [row for ask in alike for row in ask.rows]
            values = self._answer(want, rows, tokens)
            start = 0
            for ask in alike:
                answers[ask] = values[start : start + len(ask.rows)]
                start += len(ask.rows)
        return [answers[ask] for ask in asks]

    def _answer(self, want: str, rows: Sequence[Row], tokens: int) -> Sequence[Any]:
        if want == "unit":
            return self._units(rows)
        if want == "peak":
            return self._peaks(rows)
        if want == "kl":
            return self._divergences(rows)
        if want == "next":
            return list(self._next(rows))
        return self._texts(rows, tokens)

    def _units(self, rows: Sequence[Row]) -> list[float]:
        clean = self._read([row.prompt for row in rows])
        directions = {row.direction for row in rows if row.direction is not None}
        norms = {d: float(self._directions.vector(d).norm()) for d in directions}
        return [
            clean[row.prompt].sizes[row.direction.latent.coder] / norm
            if row.direction is not None and (norm := norms[row.direction]) > 0
            else 0.0
            for row in rows
        ]

    def _peaks(self, rows: Sequence[Row]) -> list[float]:
        prompts = list(self._read([row.prompt for row in rows]))
        names = dict.fromkeys(row.direction.latent.coder for row in rows if row.direction)
        found: dict[tuple[Prompt, str], float] = {}

        def measure(rollout: Rollout, places: Sequence[int]) -> None:
            peaks = {name: Peak(self._directions.places[name]) for name in names}
            rollout.step(rollout.last, list(peaks.values()))
            for name, peak in peaks.items():
                for place, value in zip(places, peak.activations.tolist(), strict=True):
                    found[prompts[place], name] = value

        self._batches.each([Row(prompt) for prompt in prompts], 1, measure)
        return [
            found[row.prompt, row.direction.latent.coder] if row.direction else 0.0 for row in rows
        ]

    def _divergences(self, rows: Sequence[Row]) -> list[float]:
        clean = self._read([row.prompt for row in rows])
        found = np.zeros(len(rows))

        def measure(rollout: Rollout, places: Sequence[int]) -> None:
            steered = rollout.step(rollout.last).log_softmax(-1)
            order = {p: i for i, p in enumerate(dict.fromkeys(r.prompt for r in rollout.rows))}
            own = torch.tensor([order[row.prompt] for row in rollout.rows])
            p = torch.stack([clean[prompt].log_probabilities for prompt in order])
            p = p.to(steered.device)[own.to(steered.device)]
            found[places] = divergence(p, steered).cpu().numpy()

        self._batches.each(rows, 1, measure)
        return [float(value) for value in found]

    def _next(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        clean = self._read([row.prompt for row in rows if row.direction is None])
        found: dict[int, Tensor] = {
            i: clean[row.prompt].log_probabilities.cpu()
            for i, row in enumerate(rows)
            if row.direction is None
        }

        def keep(rollout: Rollout, places: Sequence[int]) -> None:
            steered = rollout.step(rollout.last).log_softmax(-1).cpu()
            found.update(zip(places, steered, strict=True))

        self._batches.each(rows, 1, keep, [i for i in range(len(rows)) if i not in found])
        return torch.stack([found[i] for i in range(len(rows))]).numpy()

    def _texts(self, rows: Sequence[Row], tokens: int) -> list[NDArray[np.int32]]:
        found: list[NDArray[np.int32]] = [np.empty(0, np.int32)] * len(rows)

        def generate(rollout: Rollout, places: Sequence[int]) -> None:
            starts = torch.tensor([row.noise for row in rollout.rows])  # [rows, tokens]
            heat = torch.tensor([[row.temperature] for row in rollout.rows])
            ids, drawn = rollout.last, []
            for step in range(tokens):
                logits = rollout.step(ids)
                noise = self._noise(starts[:, step], logits.shape[1]).to(logits.device)
                ids = noise.mul_(heat.to(logits.device)).add_(logits).argmax(-1)
                drawn.append(ids)
            for place, text in zip(places, torch.stack(drawn, 1).cpu().numpy(), strict=True):
                found[place] = self._until_end(text.astype(np.int32))

        self._batches.each(rows, tokens, generate)
        return found

    def _until_end(self, text: NDArray[np.int32]) -> NDArray[np.int32]:
        ends = np.flatnonzero(text == self._subject.tokenizer.eos_token_id)
        return text[: ends[0]] if len(ends) else text

    def _noise(self, starts: Tensor, size: int) -> Tensor:
        """Gumbel noise [rows, size]: stretches of one table, from ``starts`` [rows] on.

        Where a stretch begins derives from what it is for. Stretches that overlap give their
        noise to other tokens, so that draws are as good as independent.
        """
        if size not in self._tables:
            generator = derived_generator(self._seed, "noise")
            gumbel = -np.log(generator.standard_exponential(NOISES + size - 1))
            table = torch.from_numpy(gumbel.astype(np.float32))
            self._tables[size] = table.to(self._subject.device)
        table = self._tables[size]
        return table.unfold(0, size, 1)[starts.to(table.device)]

    def _read(self, prompts: Sequence[Prompt]) -> dict[Prompt, Clean]:
        """The clean pass of each prompt, run once."""
        found = self._clean.among(prompts)
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in found]

        def gauge(rollout: Rollout, places: Sequence[int]) -> None:
            gauges = {name: Gauge(place) for name, place in self._directions.places.items()}
            logits = rollout.step(rollout.last, list(gauges.values())).log_softmax(-1)
            sizes = {name: one.sizes.tolist() for name, one in gauges.items()}
            for i, place in enumerate(places):
                clean = Clean(logits[i], {name: size[i] for name, size in sizes.items()})
                found[new[place]] = clean
                self._clean.put(new[place], clean, logits[i].nbytes)

        longest = max(new, key=len, default=b"")
        if len(longest) > self._checked:
            self._check(longest)
            self._checked = len(longest)
        self._batches.each([Row(prompt) for prompt in new], 1, gauge)
        return found

    def _check(self, prompt: Prompt) -> None:
        """Raise unless two rows that share a cache answer as a plain forward pass does.

        Not every architecture keeps keys and values, or heeds a mask of one's own, or at every
        length.
        """
        subject = self._subject
        try:
            rollout = self._batches.rollout([[Row(prompt)] * 2])
            shared = rollout.step(rollout.last).log_softmax(-1)
        except torch.OutOfMemoryError as error:
            raise self._batches.too_large() from error
        except (TypeError, ValueError) as error:
            raise AutointerpError(
                f"{subject.name} cannot be steered: it takes no cache of keys and values or no mask"
                f" of ours ({first_line(error)}); use another model"
            ) from error
        kl = float(divergence(self._plain(prompt).to(shared.device), shared).max())
        if not kl < (_SAME if subject.dtype == torch.float32 else _SAME_IN_HALF):
            raise AutointerpError(
                f"{subject.name} cannot be steered after {len(prompt) // 4} tokens: with a cache"
                f" of keys and values and a mask of ours it answers {kl:.2g} nats away from a plain"
                " forward pass; use shorter prompts or another model"
            )

    def _plain(self, prompt: Prompt) -> Tensor:
        """Log-probabilities [vocabulary] of the next token by one forward pass, no cache."""
        subject = self._subject
        head = [] if subject.bos_id is None else [subject.bos_id]
        ids = torch.tensor([[*head, *np.frombuffer(prompt, np.int32).tolist()]])
        with subject.lock, torch.inference_mode():
            logits: Tensor = subject.model(ids.to(subject.device), use_cache=False).logits
        return logits[0, -1].float().log_softmax(-1)
