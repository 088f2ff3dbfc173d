"""The figures of the report: the document of ``report --json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from autointerp.latents import SOURCES, LatentId
from autointerp.pipeline.agreement import noted_agreement
from autointerp.pipeline.results import Results
from autointerp.report.static.reading import failed_effects, latents
from autointerp.report.static.searches import searches
from autointerp.report.static.sums import BIN, Correlation, Histogram, Mean
from autointerp.report.static.tally import HALF_DECADES, Pick, Tally

Document = dict[str, Any]
Density = Callable[[LatentId], float | None]  # share of tokens that a latent fires on
KINDS_SHOWN = 20


def tallied(results: Results, explainer: str, density: Density, seed: int) -> Tally:
    """Read every latent of the run once."""
    tally = Tally(seed)
    for seen in latents(results, explainer):
        tally.add(seen, density(seen.latent))
    for reason in failed_effects(results):
        tally.fail("explaining the effect", reason)
    return tally


def document(tally: Tally, results: Results, explainer: str, summary: Document) -> Document:
    """``summary`` (the document of ``status``) and what the tally adds to it:

    ``coverage``: statuses by coder; ``distributions``: of every scorer's headline and its controls,
    the mean and the counts in bins from ``from``, each ``width`` wide; ``by_decile`` (0 has the
    weakest activations) and ``specificity``: mean shares of right answers; ``unanswered``: mean
    share of items without a usable answer; ``agreement``: correlations of scorers over latents;
    ``density``: mean headlines by the share of tokens a latent fires on; ``failures``: the
    commonest kinds; ``tested``: what agents tested; ``best``, ``worst``, ``surprising``: latents;
    ``rerun``: how far the rerun of the run agrees with it, if there is one.
    """
    best, worst = best_and_worst(tally)
    tested = searches(results, explainer, tally.explained.items)
    return {
        **summary,
        "explainer": explainer,
        "coverage": {coder: dict(sorted(c.items())) for coder, c in sorted(tally.coverage.items())},
        "distributions": {s: _distributions(tally, s) for s in sorted(tally.values)},
        "by_decile": {s: _deciles(tally.deciles[s].items()) for s in sorted(tally.deciles)},
        "specificity": {s: _sources(tally.sources[s]) for s in sorted(tally.sources)},
        "unanswered": {s: tally.unanswered[s].value for s in sorted(tally.unanswered)},
        "agreement": [_agreement(a, b, c) for (a, b), c in sorted(tally.pairs.items())],
        "density": {s: _densities(tally.densities[s].items()) for s in sorted(tally.densities)},
        "failures": _failures(tally.failures),
        "tested": tested and {**tested, "of": tally.explained.of},
        "rerun": noted_agreement(results, explainer),
        "best": [_pick(pick) for pick in best],
        "worst": [_pick(pick) for pick in worst],
        "surprising": [_pick(pick) for pick in tally.surprising],
    }


def best_and_worst(tally: Tally) -> tuple[list[Pick], list[Pick]]:
    """The best latents and the worst; of few latents, the better half and the rest."""
    best, worst = list(tally.best), list(tally.worst)
    if tally.ranked >= len(best) + len(worst):
        return best, worst
    better = (tally.ranked + 1) // 2
    return best[:better], worst[: tally.ranked - better]


def _distributions(tally: Tally, scorer: str) -> Document:
    headline, chance = tally.headlines[scorer]
    of = {control: _histogram(of) for control, of in sorted(tally.values[scorer].items())}
    return {"metric": headline, "chance": chance, "true": of.pop("", None), "controls": of}


def _histogram(of: Histogram) -> Document:
    """Without the empty bins at both ends."""
    filled = [place for place, n in enumerate(of.counts) if n]
    first, last = filled[0], filled[-1]
    return {
        "n": of.mean.n,
        "mean": of.mean.value,
        "from": round(first * BIN - 1, 6),
        "width": BIN,
        "counts": of.counts[first : last + 1],
    }


def _deciles(means: Iterable[tuple[int, Mean]]) -> list[Document]:
    return [{"decile": decile, "n": m.n, "mean": m.value} for decile, m in sorted(means)]


def _sources(means: dict[str, Mean]) -> dict[str, float | None]:
    return {source: means[source].value for source in SOURCES if source in means}


def _agreement(a: str, b: str, found: Correlation) -> Document:
    return {"scorers": [a, b], "n": found.n, "correlation": found.value}


def _densities(means: Iterable[tuple[int, Mean]]) -> list[Document]:
    return [
        {
            "from": 10 ** (place / HALF_DECADES),
            "to": 10 ** ((place + 1) / HALF_DECADES),
            "n": mean.n,
            "mean": mean.value,
        }
        for place, mean in sorted(means)
    ]


def _failures(counted: Counter[tuple[str, str]]) -> list[Document]:
    commonest = sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:KINDS_SHOWN]
    return [{"what": what, "kind": kind, "n": n} for (what, kind), n in commonest]


def _pick(pick: Pick) -> Document:
    return {"latent": str(pick.latent), "why": pick.why}
