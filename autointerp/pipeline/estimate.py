"""What a run will cost, before anything is spent: a small real run whose models only pretend.

A seeded sample of the latents is explained and scored in a directory of its own, by the stages of
the run itself, over the run's examples or, where it has none, over a small part of the corpus.
Replies that the journal has are replayed, so that what was measured is not guessed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from autointerp.config import RunConfig
from autointerp.examples.store import ExampleStore
from autointerp.latents import AutointerpError, LatentId
from autointerp.llm.opening import check_llms, open_llms
from autointerp.llm.rehearsal import Rehearsal
from autointerp.llm.vllm_command import check_program
from autointerp.pipeline import building, directory, run
from autointerp.pipeline.controls import controlled
from autointerp.pipeline.estimated import Rehearsed, Took, document
from autointerp.pipeline.extrapolation import Sample, Totals, parts_of
from autointerp.pipeline.results import Results
from autointerp.pipeline.scratch import collected, scratch_run
from autointerp.pipeline.selection import choose
from autointerp.pipeline.session import Observe, Session, session
from autointerp.pipeline.standins import stand_ins
from autointerp.pipeline.status import read_status
from autointerp.sections import CASCADE, BudgetSection
from autointerp.subject.embedder import check_installed

FIRST, MOST = 8, 64  # latents rehearsed at first, and in the end
FIRST_AMONG_OTHERS = 48  # where a scorer sets a latent against some of the others
CLOSE = 0.08  # half-width of the interval at which no more are rehearsed
SECONDS = 60.0  # after which no more are rehearsed
LOOKED_AT = 1024  # latents, whether the run has explained them already
FEWEST_MEASURED = 3  # latents with real replies that tell how many questions answers lead to
ROUNDS = 3  # of an agent's search that nobody has measured; most end earlier than at their cap


def estimate(
    config: RunConfig, observe: Observe, *, spend: int = 0, force: bool = False
) -> dict[str, Any]:
    """The document of ``estimate``.

    ``spend`` latents of the run are first explained and scored for real. Their results are not
    kept, but the replies are, in the journal, where the run finds them. ``force`` reads the corpus
    with a coder that explains nothing too.

    Raises:
        AutointerpError: what ``run`` would refuse, but for API keys, which only ``spend`` needs; or
            ``spend`` for a run without examples.
    """
    _refuse_as_run(config, spend=bool(spend))
    if spend and not collected(config):
        raise AutointerpError(
            "--spend asks about latents of the run, which has no examples yet;"
            " run `autointerp collect` first"
        )
    with TemporaryDirectory(prefix="autointerp-estimate-") as folder:
        place = Path(folder)
        latency = _spend(config, observe, place / "spent", spend) if spend else _latency(config)
        rehearsed = _rehearse(config, observe, place / "rehearsed", spend, force)
        return document(config, rehearsed, latency)


def _refuse_as_run(config: RunConfig, *, spend: bool) -> None:
    check_llms(config.llms, config.budget, keys=spend)
    for name in {*config.llm_names("explain"), *config.llm_names("score")}:
        section = config.llms[name]
        if section.backend == "vllm" and section.base_url is None:
            check_program(section, f"llms.{name}")
    if building.needs_embedder(config):
        check_installed()
    results = config.run.path / directory.RESULTS
    if results.exists():
        settings = building.settings(config, building.checkpoint_hashes(config), explain=True)
        with Results.read(results) as held:
            held.check_settings(settings)


def _latency(config: RunConfig) -> float | None:
    """Seconds a request, as the run has met them so far."""
    told: float | None = (
        (read_status(config.run.path) or {}).get("llm", {}).get("seconds_per_request")
    )
    return told


def _spend(config: RunConfig, observe: Observe, path: Path, latents: int) -> float | None:
    """Explain and score some latents for real; the mean seconds that a request took."""
    name = str(config.run.path.resolve())  # as the run is called in the journal
    with session(scratch_run(config, path), observe) as s:
        s.open_models = partial(_opened_for, name)
        store = run.collect(s)
        wanted = _first(config, store, latents)
        run.explain(s, store, wanted)
        for latent in wanted:  # one alone: with others it would get their texts as controls
            run.score(s, store, [latent])
        gate = s.ledger.gate
        return gate.seconds / gate.sent if gate.sent else None


def _opened_for(name: str, *arguments: Any, **options: Any) -> Any:
    """``open_llms`` for the run of that name."""
    return open_llms(*arguments, **{**options, "run": name})


def _first(config: RunConfig, store: ExampleStore, count: int) -> list[LatentId]:
    """The first latents of a seeded order of the plan: that in which they get controls."""
    return controlled(_plan(config, store), seed=config.run.seed, limit=count)


def _plan(config: RunConfig, store: ExampleStore) -> list[LatentId]:
    counts = {name: store.statistics(name).firing_count for name in config.latents}
    return choose(config, counts)


def _rehearse(
    config: RunConfig, observe: Observe, path: Path, spent: int, force: bool
) -> Rehearsed:
    rehearsal = Rehearsal(config.llms, config.journal, str(config.run.path.resolve()))
    local = config.engine.model_copy(update={"kind": "local"})
    changes = {"budget": BudgetSection(), "engine": local}
    scratch = scratch_run(config, path).model_copy(update=changes)
    with session(scratch, observe, force=force, asks=False) as s:
        s.open_models = rehearsal.open
        s.start_no_servers()
        store = run.collect(s)
        plan = _plan(config, store)
        measured = _measured(config, store, spent)
        known = _Known([], [], measured)
        if len(measured) >= FEWEST_MEASURED:
            known = known.of(config)
        elif _searches(config):
            s.config = _shortened(scratch)
        return _grown(_Rehearsing(config, s, store, rehearsal, plan, known))


class _Known(NamedTuple):
    """Where answers decide what else is asked, the latents with real ones: they alone tell what
    explaining costs, or scoring. ``measured`` latents have real replies."""

    explained: Sequence[LatentId]
    scored: Sequence[LatentId]
    measured: Sequence[LatentId]

    def of(self, config: RunConfig) -> _Known:
        """Where those that have real replies are enough."""
        latents = self.measured
        stepwise = any(section.get("revise") for section in config.tiers)
        stepwise |= config.explainer["kind"] == CASCADE
        sequential = any(section.get("sequential") for section in config.scorers)
        searches = _searches(config)  # and finds an explanation, or none
        return self._replace(
            explained=latents if searches or stepwise else [],
            scored=latents if searches or sequential else [],
        )


@dataclass(frozen=True)
class _Rehearsing:
    """A session whose models pretend, the run's plan, and what is known of it."""

    config: RunConfig
    session: Session
    store: ExampleStore
    rehearsal: Rehearsal
    plan: Sequence[LatentId]
    known: _Known

    def sample(self, size: int) -> list[LatentId]:
        """The latents to explain and score: of a seeded order so many, stand-ins in their places;
        and those that are known."""
        drawn = controlled(self.plan, seed=self.config.run.seed, limit=size)
        chosen = stand_ins(self.config, self.store, drawn)
        return list(dict.fromkeys([*chosen, *self.known.explained, *self.known.scored]))


def _grown(r: _Rehearsing) -> Rehearsed:
    """Rehearse ever more latents, until they tell enough."""
    began, empty = time.perf_counter(), r.session.results.bytes_held()
    size = _first_size(r)
    while True:
        sample = r.sample(size)
        run.explain(r.session, r.store, sample)
        run.score(r.session, r.store, sample)
        seconds = time.perf_counter() - began
        counted = Sample(r.known.explained or sample, r.known.scored or sample, len(r.plan))
        parts = parts_of(r.session.results, r.config, counted)
        totals = Totals(parts, r.rehearsal.models, counted)
        off = max(totals.sampling_error(of) for of in ("prompt_tokens", "dollars"))
        enough = r.known.scored or off <= CLOSE or size >= min(MOST, len(r.plan))
        if enough or seconds >= SECONDS:
            held = r.session.results.bytes_held() - empty
            took = Took(len(sample), seconds, held)
            measured = _real_replies(r, counted)
            return Rehearsed(
                totals, r.rehearsal.spent, r.store, measured, took, collected(r.config)
            )
        size *= 2


def _real_replies(r: _Rehearsing, sample: Sample) -> int:
    """Of how many of the sample's latents the journal has replies."""
    if not any(model.known for model in r.rehearsal.models.values()):
        return 0
    return len({*sample.explained, *sample.scored}.intersection(r.known.measured))


def _first_size(r: _Rehearsing) -> int:
    """How many to rehearse at first: all of a few, whose controls are then the run's own."""
    if "others" in r.config.needs("score"):
        return FIRST_AMONG_OTHERS
    if r.known.scored:
        return 0
    return FIRST if len(r.plan) > MOST // 2 else len(r.plan)


def _measured(config: RunConfig, store: ExampleStore, spent: int) -> list[LatentId]:
    """Latents whose replies are in the journal: those spent on now, and those explained before."""
    first = _first(config, store, max(spent, LOOKED_AT))
    path = config.run.path / directory.RESULTS
    explained: set[LatentId] = set()
    if path.exists():
        with Results.read(path) as results:
            explained = {e.latent for e in results.of(first, config.explainer["kind"])}
    asked = set(_first(config, store, spent)) if spent else set()
    return controlled(asked | explained, seed=config.run.seed, limit=max(spent, MOST))


def _searches(config: RunConfig) -> bool:
    """Whether an agent asks for as long as the answers make it."""
    return "roles_factory" in config.needs("explain")


def _shortened(config: RunConfig) -> RunConfig:
    """With agents that search for as many rounds as most need."""

    def short(section: Mapping[str, Any]) -> dict[str, Any]:
        rounds = section.get("rounds")
        return {**section, "rounds": min(rounds, ROUNDS)} if rounds else dict(section)

    explainer = short(config.explainer)
    if tiers := explainer.get("tiers"):
        explainer["tiers"] = [short(tier) for tier in tiers]
    return config.model_copy(update={"explainer": explainer})
