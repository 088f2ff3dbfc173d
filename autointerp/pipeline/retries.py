"""Tries again what failed, in rounds.

What failed is left alone until it is asked for. Then every failure gets one more try; the round is
kept with those that fail again, so that a round which was interrupted goes on where it was: with
the same questions, whose answers the journal may have, and without those that it tried.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autointerp.latents import LatentId
from autointerp.pipeline.results import Results
from autointerp.pipeline.shards import STAGES, Stage
from autointerp.pipeline.standings import SELECT

Key = tuple[str, str, str]  # explanation id, scorer, control

ROUND = "round"  # the detail of a failure that was tried again
_ROUNDS = "rounds of retries"  # what is noted in the results


@dataclass(frozen=True)
class Retry:
    """What is tried again in one stage: ``explanations`` by explainer, and ``scores``."""

    round: int = 0
    explanations: Mapping[str, frozenset[LatentId]] = field(default_factory=dict)
    scores: frozenset[Key] = frozenset()

    def of(self, explainer: str, latent: LatentId) -> int:
        """The round that an explanation is made in; 0 for one that did not fail."""
        return self.round if latent in self.explanations.get(explainer, ()) else 0

    def of_score(self, key: Key) -> int:
        """The round that a score is made in; 0 for one that did not fail."""
        return self.round if key in self.scores else 0


NO_RETRY = Retry()


def retry_of(results: Results, stage: Stage, stages: Sequence[Stage]) -> Retry:
    """What failed in a stage and is tried again; ``stages`` are those that a command retries.

    The command's round goes on if it was interrupted; else a new one begins, of all its stages.
    """
    if stage not in stages:
        return NO_RETRY
    rounds = _noted(results)
    if not any(rounds[name].unfinished for name in stages):
        rounds |= {name: _Round(rounds[name].number + 1, True) for name in stages}
        _note(results, rounds)
    if not rounds[stage].unfinished:
        return NO_RETRY
    number = rounds[stage].number
    explanations = _explanations(results, number) if stage == "explain" else {}
    return Retry(number, explanations, _scores(results, number, stage))


def finish_retry(results: Results, stage: Stage) -> None:
    """Note that a stage's round is done, if there is one."""
    rounds = _noted(results)
    if rounds[stage].unfinished:
        _note(results, rounds | {stage: _Round(rounds[stage].number, False)})


@dataclass(frozen=True)
class _Round:
    number: int = 0
    unfinished: bool = False


def _noted(results: Results) -> dict[Stage, _Round]:
    noted: Mapping[str, Any] = results.noted(_ROUNDS) or {}
    return {stage: _Round(*noted.get(stage, ())) for stage in STAGES}


def _note(results: Results, rounds: Mapping[Stage, _Round]) -> None:
    results.note(_ROUNDS, {name: [r.number, r.unfinished] for name, r in rounds.items()})


def _explanations(results: Results, number: int) -> dict[str, frozenset[LatentId]]:
    query = "SELECT coder, latent, explainer, details FROM explanations WHERE status = 'failed'"
    found: dict[str, set[LatentId]] = {}
    for coder, index, explainer, packed in results.query(query):
        if json.loads(zlib.decompress(packed)).get(ROUND, 0) < number:
            found.setdefault(explainer, set()).add(LatentId(coder, index))
    return {explainer: frozenset(latents) for explainer, latents in found.items()}


def _scores(results: Results, number: int, stage: Stage) -> frozenset[Key]:
    query = "SELECT explanation, scorer, control, details FROM scores WHERE status = 'failed'"
    return frozenset(
        (explanation, scorer, control)
        for explanation, scorer, control, details in results.query(query)
        if (scorer == SELECT) == (stage == "explain") and json.loads(details).get(ROUND, 0) < number
    )
