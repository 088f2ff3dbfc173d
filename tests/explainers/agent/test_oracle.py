"""The agent with a language model at its other end that starts wrong and learns from probes.

Everything between is real: server, language model layer, probe queue, and the planted subject.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from oracle import MISTAKES, Oracle
from oracle_variants import RUBBISH, AlwaysRefine, NeverRight, Nonsense, Rubbish
from oracle_world import Answer, Explained, OracleWorld
from planted import Family, PlantedLatent, Truth
from planted_coders import Planted

from autointerp.explainers.agent import AgentOptions
from autointerp.latents import Explanation
from autointerp.patterns import parse

KINDS: tuple[Family, ...] = ("token_set", "previous", "earlier", "either_or", "unless")
LIVING: tuple[Family, ...] = (*KINDS, "single", "dense")
CAPS = AgentOptions()
AGREE = 0.95


@pytest.fixture(scope="module")
def world(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> OracleWorld:
    return OracleWorld.of(planted, tmp_path_factory.mktemp("store"), tokens=40_000)


@pytest.fixture(scope="module")
def whole(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> OracleWorld:
    return OracleWorld.of(planted, tmp_path_factory.mktemp("store"))


def _first_of(truth: Truth, families: Sequence[Family]) -> list[PlantedLatent]:
    return [truth.family(name)[0] for name in families]


def _agreements(
    world: OracleWorld, latents: Sequence[PlantedLatent], found: Explained
) -> list[float]:
    pairs = zip(latents, found.explanations, strict=True)
    return [world.agreement(latent, explanation.text) for latent, explanation in pairs]


def _proposed(explanation: Explanation) -> str:
    """The first hypotheses, as one text."""
    events = explanation.details["events"]
    return "; or ".join(e["text"] for e in events if e["event"] == "hypothesis" and not e["round"])


def _check_ended(explanation: Explanation) -> None:
    """Without an explanation, within the caps, and with a reason."""
    assert explanation.status in ("no_explanation", "failed")
    assert explanation.reason
    assert explanation.details["rounds"] <= CAPS.rounds
    assert explanation.details["measured"] <= CAPS.probes
    assert explanation.details["calls"] <= CAPS.calls
    assert explanation.cost.requests <= CAPS.calls + 1  # the last call may need its repair


def test_probes_lead_from_wrong_hypotheses_to_the_rules(world: OracleWorld, tmp_path: Path) -> None:
    latents = _first_of(world.truth, KINDS)
    found = world.explain(latents, Oracle(), tmp_path)
    for latent, explanation in zip(latents, found.explanations, strict=True):
        assert world.agreement(latent, _proposed(explanation)) < AGREE
        assert world.agreement(latent, explanation.text) >= AGREE
        assert explanation.cost.requests == explanation.details["calls"]
    *_, either_or, unless = found.explanations
    assert len(either_or.components) == 2
    assert parse(unless.text) == parse(latents[-1].pattern)
    assert unless.details["exclusions"]


def test_dead_latents_cost_nothing(world: OracleWorld, tmp_path: Path) -> None:
    found = world.explain(world.truth.family("dead"), Oracle(), tmp_path)
    assert [e.status for e in found.explanations] == ["dead"] * 3
    assert not found.served


def test_transport_faults_leave_no_trace(world: OracleWorld, tmp_path: Path) -> None:
    latents = _first_of(world.truth, KINDS)[1:4]
    for name in ("calm", "stormy"):
        (tmp_path / name).mkdir()
    calm = world.explain(latents, Oracle(), tmp_path / "calm")
    faults = {"429": 0.1, "500": 0.1, "truncated": 0.1}
    stormy = world.explain(latents, Oracle(), tmp_path / "stormy", faults=faults)
    assert stormy.faults
    for one, other in zip(calm.explanations, stormy.explanations, strict=True):
        assert (one.text, one.components) == (other.text, other.components)
        assert one.details == other.details


def test_content_faults_are_repaired_or_counted(world: OracleWorld, tmp_path: Path) -> None:
    latents = _first_of(world.truth, KINDS)[1:4]
    faults = {"garbage": 0.15, "prose": 0.1, "wrong_length": 0.1}
    found = world.explain(latents, Oracle(), tmp_path, faults=faults)
    assert found.faults
    for latent, explanation in zip(latents, found.explanations, strict=True):
        assert world.agreement(latent, explanation.text) >= AGREE or explanation.reason
    assert sum(e.cost.requests for e in found.explanations) == found.spent["requests"]


@pytest.mark.parametrize("kind", RUBBISH)
def test_rubbish_probes_end_with_a_reason(world: OracleWorld, tmp_path: Path, kind: str) -> None:
    found = world.explain(_first_of(world.truth, KINDS)[1:4:2], Rubbish(kind), tmp_path)
    for explanation in found.explanations:
        _check_ended(explanation)


@pytest.mark.parametrize("answer", [AlwaysRefine(), Nonsense(), None])
def test_stubborn_models_end_with_a_reason(
    world: OracleWorld, tmp_path: Path, answer: Answer | None
) -> None:
    found = world.explain(_first_of(world.truth, KINDS)[1:4:2], answer, tmp_path)
    for explanation in found.explanations:
        _check_ended(explanation)


@pytest.mark.slow
def test_all_planted_rules_are_found(whole: OracleWorld, tmp_path: Path) -> None:
    latents = [latent for name in LIVING for latent in whole.truth.family(name)]
    oracle = Oracle()
    found = whole.explain(latents, oracle, tmp_path)
    values = _agreements(whole, latents, found)
    agreeing = sum(value >= AGREE for value in values) / len(latents)
    for latent, explanation, value in zip(latents, found.explanations, values, strict=True):
        assert whole.agreement(latent, _proposed(explanation)) < AGREE
        if value < AGREE:
            print(f"{latent.pattern}: {value:.3f} {explanation.status} {explanation.text}")
    calls = sum(e.cost.requests for e in found.explanations) / len(latents)
    print(f"oracle: {agreeing:.3f} of {len(latents)} agree, {calls:.2f} calls a latent, first")
    print(f"hypotheses: {dict(oracle.mistakes)}")
    assert agreeing >= 0.95
    assert all(oracle.mistakes[m] >= 0.2 * len(latents) for m in MISTAKES)
    by_family = dict(zip((latent.index for latent in latents), found.explanations, strict=True))
    for latent in whole.truth.family("either_or"):
        assert len(by_family[latent.index].components) == 2
    for latent in whole.truth.family("unless"):
        assert by_family[latent.index].details["exclusions"]


def _living(truth: Truth) -> list[PlantedLatent]:
    return [latent for name in LIVING for latent in truth.family(name)]


@pytest.mark.slow
@pytest.mark.parametrize("make", [NeverRight, AlwaysRefine])
def test_no_latent_is_explained_by(
    whole: OracleWorld, tmp_path: Path, make: Callable[[], Answer]
) -> None:
    found = whole.explain(_living(whole.truth), make(), tmp_path)
    print(make.__name__, Counter(explanation.reason for explanation in found.explanations))
    for explanation in found.explanations:
        _check_ended(explanation)
        assert explanation.status == "no_explanation"


@pytest.mark.slow
def test_measurements_of_other_latents_confirm_nothing(whole: OracleWorld, tmp_path: Path) -> None:
    latents = _living(whole.truth)
    half = len(latents) // 2
    others = {
        one.index: other.index
        for one, other in zip(latents, latents[half:] + latents[:half], strict=True)
    }
    found = whole.explain(latents, Oracle(), tmp_path, measured_as=others)
    confirmed = [e for e in found.explanations if e.status == "explained"]
    print(f"shuffled measurements: {len(confirmed)} of {len(latents)} confirmed")
    assert len(confirmed) <= 0.05 * len(latents)
