"""Nothing but what the texts say tells the truth: not counts, places, lengths or order.

A gradient-boosted classifier is fitted on half of the demo's latents and tested on the others, in
documents that it has not seen: latents share windows, and a judge remembers none.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import steered_world
from clustering import Clustering, PairClustering
from given_sets import with_test
from numpy.typing import NDArray
from planted_coders import Planted
from sklearn.ensemble import HistGradientBoostingClassifier
from steered_world import where

from autointerp.examples.harvest import collect
from autointerp.examples.options import Attached, CorpusOptions, ExampleOptions
from autointerp.examples.sampling import SetBuilder
from autointerp.examples.store import ExampleStore
from autointerp.explainers.effects import EffectsExplainer
from autointerp.judges import Marks, NoVerdict, Verdict
from autointerp.latents import Evidence, Example, Explanation, Label, LabelledSet, LatentId, Score
from autointerp.scorers.detection import DetectionScorer
from autointerp.scorers.fuzzing import FuzzingScorer
from autointerp.scorers.intervention import InterventionScorer
from autointerp.sections import DEMO, DEMO_CODERS
from autointerp.statistics import auroc
from autointerp.subject.checkpoints import load_coder
from autointerp.subject.loading import load_subject

TOKENS = 80_000
LATENTS = 90  # of each coder
FEWEST_WINDOWS = 50  # of TEST
KINDS = {"detection": DetectionScorer, "fuzzing": FuzzingScorer}
Numbers = NDArray[np.float64]
pytestmark = pytest.mark.slow


@dataclass
class Sets:
    """What some latents of the demo are explained and scored by."""

    shown: dict[LatentId, Evidence] = field(default_factory=dict)
    test: dict[LatentId, LabelledSet] = field(default_factory=dict)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Sets:
    subject = load_subject(str(DEMO), device="cpu", context_length=256)
    attached = {
        name: Attached(load_coder(DEMO / "coders" / name), subject.hook_point(name), None)
        for name in DEMO_CODERS
    }
    corpus, folder = CorpusOptions("stdlib", tokens=TOKENS), tmp_path_factory.mktemp("store")
    store = collect(subject, attached, corpus, ExampleOptions(), folder)
    found, latents = Sets(), _latents(store)
    builder = SetBuilder(store, "test", latents)
    for latent in latents:
        found.shown[latent], labelled = builder.take(latent)
        found.test[latent] = labelled()
    return found


def _latents(store: ExampleStore) -> list[LatentId]:
    """As many of each coder, spread over those with enough windows."""
    latents = []
    for coder in store.coders:
        counts = np.asarray(store.statistics(coder).window_count)[:, 2]
        fit = np.flatnonzero(counts >= FEWEST_WINDOWS)
        chosen = np.random.default_rng(0).choice(fit, LATENTS, replace=False)
        latents += [LatentId(coder, int(index)) for index in chosen]
    return latents


@dataclass
class Watching:
    """A judge that keeps what it was shown; its probabilities are the places in its order."""

    name: str = "watching"
    shown: list[Example] = field(default_factory=list)
    marks: list[Marks] = field(default_factory=list)

    async def detect(
        self, explanation: str, examples: Sequence[Example], *, latent: LatentId
    ) -> list[Verdict | NoVerdict]:
        none = [np.zeros(len(example.token_ids), bool) for example in examples]
        return await self.fuzz(explanation, examples, none, latent=latent)

    async def fuzz(
        self,
        explanation: str,
        examples: Sequence[Example],
        marks: Sequence[Marks],
        *,
        latent: LatentId,
    ) -> list[Verdict | NoVerdict]:
        self.shown, self.marks = list(examples), list(marks)
        return [Verdict(True, float(place)) for place in range(len(examples))]


@dataclass
class Seen:
    """What a judge was shown: an item a row."""

    features: Numbers
    truth: NDArray[np.bool_]
    latent: NDArray[np.int64]
    document: NDArray[np.int64]

    def leak(self) -> float:
        """AUROC over all items, each guessed from the other half of latents and of documents."""
        rng = np.random.default_rng(1)
        quarter = _half(self.latent, rng) + 2 * _half(self.document, rng)
        guesses = np.zeros(len(self.truth))
        for tested in range(4):
            fit, test = quarter == 3 - tested, quarter == tested
            model = HistGradientBoostingClassifier(max_iter=60, learning_rate=0.05, random_state=0)
            model.fit(self.features[fit], self.truth[fit])
            guesses[test] = model.predict_proba(self.features[test])[:, 1]
        return auroc(self.truth.tolist(), guesses.tolist())


def _half(groups: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """1 for the rows that belong to a random half of the groups, else 0."""
    names = np.unique(groups)
    chosen = rng.choice(names, len(names) // 2, replace=False)
    return np.isin(groups, chosen).astype(np.int64)


def watch(sets: Sets, scorer: str, negatives: str) -> Seen:
    """All that a judge is shown of positives and of one source of negatives."""
    judge = Watching()
    built = KINDS[scorer](judge=judge)
    rows = []
    for number, (latent, test) in enumerate(sets.test.items()):
        explanation = Explanation(latent, "a thing", "by hand")
        score = asyncio.run(built.score(explanation, with_test(latent, test)))
        for outcome in score.outcomes:
            assert isinstance(outcome, Label)
            assert outcome.probability is not None
            if outcome.source in ("activating", negatives):
                place = int(outcome.probability)
                example = judge.shown[place]
                features = _features(example, judge.marks[place], place)
                rows.append((features, outcome.truth, number, example.document))
    features, truth, latents, documents = map(np.array, zip(*rows, strict=True))
    return Seen(features, truth, latents, documents)


def _features(example: Example, marks: Marks, place: int) -> list[float]:
    """Order, lengths of all tokens, and number, places and lengths of the marked ones."""
    lengths = np.array([len(token) for token in example.tokens])
    before = len(example.left_ids)
    found = [place, place % 5, before, lengths.sum(), lengths.std(), lengths.max(), *lengths]
    if not marks.any():
        return found
    at = np.flatnonzero(marks)
    runs = 1 + np.count_nonzero(np.diff(at) > 1)
    own = lengths[marks]
    found += [len(at), runs, at[0], at[-1], at.mean(), *marks]
    return [*found, own.mean(), own.min(), own.max(), own[0], own.mean() - lengths.mean()]


@pytest.mark.parametrize(
    ("scorer", "negatives"), [("detection", "random"), ("fuzzing", "donor"), ("fuzzing", "random")]
)
def test_counts_places_lengths_and_order_say_nothing(
    sets: Sets, scorer: str, negatives: str
) -> None:
    seen = watch(sets, scorer, negatives)
    assert len(seen.truth) >= 5000
    assert seen.leak() == pytest.approx(0.5, abs=0.03)


def test_the_classifier_finds_what_is_there_to_be_found(sets: Sets) -> None:
    seen = watch(sets, "fuzzing", "donor")
    seen.features[seen.truth, -5] += 1  # the mean length of the marked tokens
    assert seen.leak() > 0.6


def clustering(sets: Sets) -> Clustering:
    windows = next(iter(sets.shown.values())).background.token_ids
    return Clustering(Counter(chain.from_iterable(set(w.tolist()) for w in windows)))


@pytest.mark.parametrize(("scorer", "within"), [("detection", 0.05), ("fuzzing", 0.03)])
def test_the_texts_of_a_prompt_do_not_give_one_another_away(
    sets: Sets, scorer: str, within: float
) -> None:
    """What a judge without an explanation may reach is what the control ``empty`` may. Positives of
    detection are a little alike, by what they are about; in fuzzing all texts are of one latent."""
    built = KINDS[scorer](judge=clustering(sets))
    found = []
    for latent, test in sets.test.items():
        score = asyncio.run(
            built.score(Explanation(latent, "not read", "by hand"), with_test(latent, test))
        )
        if score.status == "scored":
            found.append(score.metrics[score.headline].value)
    assert len(found) >= 0.9 * len(sets.test)
    assert np.mean(found) == pytest.approx(0.5, abs=within)


def test_a_judge_that_clusters_finds_a_token_that_gives_positives_away(sets: Sets) -> None:
    rng, judge = np.random.default_rng(2), clustering(sets)
    right = []
    for test in sets.test.values():
        items = [test.items[i] for i in rng.permutation(len(test.items)).tolist()]
        tokens = [(*i.example.token_ids.tolist(), -1 if i.truth else -2) for i in items]
        labels = judge.labels([frozenset(t) - {-2} for t in tokens])
        right += [label == item.truth for label, item in zip(labels, items, strict=True)]
    assert np.mean(right) > 0.8


def test_the_continuations_of_a_prompt_do_not_give_one_another_away(
    planted: Planted, tmp_path: Path
) -> None:
    world = steered_world.build(planted, tmp_path)

    async def work(effects: EffectsExplainer) -> list[Score]:
        latents = [where(latent) for latent in world.latents(16)]
        known = await asyncio.gather(*(world.explain(effects, latent) for latent in latents))
        scorer = InterventionScorer(judge=PairClustering(), effects=effects)  # type: ignore[arg-type]
        scores = (scorer.score(e, world.materials(e.latent, known)) for e in known)
        return await asyncio.gather(*scores)

    scores = [score for score in world.run(work) if score.status == "scored"]
    assert len(scores) >= 12
    assert all(score.metrics["gain"].value == 0 for score in scores)
    for source in ("own", "other", "null"):
        mean = np.mean([score.metrics[source].value for score in scores])
        assert mean == pytest.approx(0.5, abs=0.08)


def test_marks_are_as_often_true_as_false(sets: Sets) -> None:
    """Of every latent, the same masks stand on the positives and on the negatives."""
    judge = Watching()
    built = FuzzingScorer(judge=judge)
    for latent, test in sets.test.items():
        score = asyncio.run(
            built.score(Explanation(latent, "x", "by hand"), with_test(latent, test))
        )
        masks: dict[str, list[bytes]] = {}
        for outcome in score.outcomes:
            masks.setdefault(outcome.source, []).append(
                judge.marks[int(outcome.probability)].tobytes()
            )
        assert sorted(masks.get("activating", [])) == sorted(masks.get("donor", []))
        places = [(e.document, e.start) for e in judge.shown]
        assert len(set(places)) == len(places)


def test_test_windows_and_what_explainers_see_share_nothing(sets: Sets) -> None:
    shown = [e for one in sets.shown.values() for e in (*one.top, *one.sampled, *one.token_matched)]
    background = next(iter(sets.shown.values())).background
    documents = {e.document for e in shown} | set(background.documents.tolist())
    texts = {e.token_ids.tobytes() for e in shown} | {w.tobytes() for w in background.token_ids}
    for test in sets.test.values():
        for item in test.items:
            assert item.example.document not in documents
            assert item.example.token_ids.tobytes() not in texts
