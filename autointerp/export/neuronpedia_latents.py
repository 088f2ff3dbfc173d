"""One latent in Neuronpedia's rows: its feature, windows, explanation and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autointerp.export import neuronpedia_rows as rows
from autointerp.latents import Explanation, LatentId, Score

BARS = 40
SCORE_TYPES = {  # what Neuronpedia calls scorers that are the same as ours
    "detection": "eleuther_recall",
    "fuzzing": "eleuther_fuzz",
    "embedding": "eleuther_embedding",
}


@dataclass(frozen=True)
class Place:
    """Where a coder's latents are there, and who made them when."""

    model: str
    source: str
    source_set: str
    hook: str
    creator: str
    moment: str

    @property
    def layer(self) -> int:
        """The layer's number."""
        return int(self.source.partition("-")[0])


@dataclass(frozen=True)
class Told:
    """All that a run tells of one latent; ``statistics`` and ``windows`` are rows of the tables
    ``latents`` and ``examples``."""

    place: Place
    latent: LatentId
    explanation: Explanation | None
    explained_by: str | None  # a language model
    scores: Sequence[Score]
    statistics: Mapping[str, Any]
    windows: Sequence[Mapping[str, Any]]

    def tables(self) -> dict[str, list[rows.Row]]:
        """The latent's rows by table."""
        return {
            "features": [self._feature()],
            "activations": [self._activation(window) for window in self.windows],
            "explanations": [self._explained(self.explanation)] if self.explanation else [],
            "scores": [self._score(score) for score in self._own_scores()],
        }

    @property
    def _key(self) -> dict[str, Any]:
        place = self.place
        return {"modelId": place.model, "layer": place.source, "index": str(self.latent.index)}

    def _id(self, *parts: object) -> str:
        return rows.cuid(*self._key.values(), *parts)

    def _feature(self) -> rows.Feature:
        heights, values = self._histogram()
        return rows.Feature(
            **self._key,
            sourceSetName=self.place.source_set,
            creatorId=self.place.creator,
            createdAt=self.place.moment,
            hookName=rows.plain(self.place.hook),
            maxActApprox=_rounded(self.statistics.get("maximum", 0.0)),
            frac_nonzero=float(self.statistics.get("density", 0.0)),
            freq_hist_data_bar_heights=heights,
            freq_hist_data_bar_values=values,
        )

    def _histogram(self) -> tuple[list[float], list[float]]:
        """Counts and middles of the bars of the activations in the uniform sample of windows."""
        sampled = [w["activations"] for w in self.windows if w["kind"] == "sampled"]
        positive = np.array([a for activations in sampled for a in activations if a > 0])
        if not len(positive):
            return [], []
        heights, edges = np.histogram(positive, BARS, (0, float(positive.max())))
        middles = (edges[:-1] + edges[1:]) / 2
        return heights.astype(float).tolist(), [_rounded(middle) for middle in middles]

    def _activation(self, window: Mapping[str, Any]) -> rows.Activation:
        """A window; those of the uniform sample are of one interval that holds all."""
        values = [_rounded(value) for value in window["activations"]]
        top, sampled = max(values), window["kind"] == "sampled"
        return rows.Activation(
            **self._key,
            id=self._id(window["split"], window["kind"], window["place"]),
            tokens=[rows.plain(token) for token in window["tokens"]],
            values=values,
            maxValue=top,
            maxValueTokenIndex=values.index(top),
            minValue=min(values),
            creatorId=self.place.creator,
            createdAt=self.place.moment,
            dataSource=f"document {window['document']}, token {window['start']}",
            binMin=0.0 if sampled else None,
            binMax=_rounded(self.statistics.get("maximum", top)) if sampled else None,
            binContains=1.0 if sampled else None,
        )

    def _explained(self, explanation: Explanation) -> rows.Explanation:
        return rows.Explanation(
            **self._key,
            id=self._id("explanation"),
            description=rows.plain(explanation.text),
            authorId=self.place.creator,
            typeName=None,
            explanationModelName=self.explained_by and rows.plain(self.explained_by),
            notes=rows.plain("; ".join([f"autointerp {explanation.explainer}", *self._figures()])),
            createdAt=self.place.moment,
            updatedAt=self.place.moment,
        )

    def _own_scores(self) -> list[Score]:
        """The headlines of the explanation that goes out."""
        own = self.explanation and self.explanation.id
        return [s for s in self.scores if s.status == "scored" and s.explanation == own]

    def _figures(self) -> list[str]:
        return [
            f"{s.scorer} {s.headline} {s.metrics[s.headline].value:.3f}" for s in self._own_scores()
        ]

    def _score(self, score: Score) -> rows.ScoreRow:
        metric = score.metrics[score.headline]
        return rows.ScoreRow(
            **self._key,
            explanationId=self._id("explanation"),
            scorer=score.scorer,
            scoreType=SCORE_TYPES.get(score.scorer),
            judge=rows.plain(score.judge),
            metric=score.headline,
            value=float(metric.value),
            low=metric.low,
            high=metric.high,
            n=metric.n,
        )


def _rounded(value: float) -> float:
    """A number with as many digits as a plot shows."""
    return float(f"{value:.5g}")
