"""How long explainers and scorers take whose questions go out in waves: said before they start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from autointerp.latents import AutointerpError
from autointerp.registry import Options
from autointerp.sections import LLMSection

DAY = 24 * 3600
_JUDGE = ".judge"


def check_turns(options: Iterable[tuple[str, Options]], llms: Mapping[str, LLMSection]) -> None:
    """Refuse explainers and scorers that need more waves than are allowed.

    ``options`` are those of all kinds and their judges by place, as ``explainer.tiers.0.judge``.

    Raises:
        AutointerpError: naming the place, the number of waves, and what accepts them.
    """
    known = dict(options)
    for place in ("explainer", *(p for p in known if p.startswith(("scorers.", "effects")))):
        if not place.endswith(_JUDGE):
            _check(place, _turns(place, known), _parts(place, known), llms)


def _parts(place: str, known: Mapping[str, Options]) -> dict[str, Options]:
    """What is at a place: one kind, or the tiers of a cascade."""
    here = {where: o for where, o in known.items() if f"{where}.".startswith(f"{place}.")}
    return {where: o for where, o in here.items() if not where.endswith(_JUDGE)}


def _turns(place: str, known: Mapping[str, Options]) -> Counter[str]:
    """Questions that follow one another, by the language model that they are put to."""
    found: Counter[str] = Counter()
    parts = _parts(place, known)
    for where, options in parts.items():
        turns, judge = options.turns, known.get(where + _JUDGE)
        found[_llm(options)] += turns.own
        if judge is not None:
            found[_llm(judge)] += turns.judge * judge.turns.own
        if "effects" in options.needs() and "effects" in known:
            found[_llm(known["effects"])] += known["effects"].turns.own
    if place not in parts and place + _JUDGE in known:  # it reads what each tier of a cascade says
        judge = known[place + _JUDGE]
        found[_llm(judge)] += len(parts) * judge.turns.own
    return found


def _llm(options: Options) -> str:
    return str(getattr(options, "llm", None))


def _check(
    place: str,
    turns: Mapping[str, int],
    parts: Mapping[str, Options],
    llms: Mapping[str, LLMSection],
) -> None:
    asked = {name: llms[name].waves for name, n in turns.items() if n and name in llms}
    allowed = {name: waves.allow_waves for name, waves in asked.items() if waves is not None}
    needed = sum(turns[name] for name in allowed)
    wanted = [f"llms.{n}.batch.allow_waves={needed}" for n, a in allowed.items() if a < needed]
    for where, options in parts.items():
        if allowed and options.patience is not None and options.patience < needed * DAY:
            wanted.append(f"{where}.seconds={needed * DAY}")
    if wanted:
        raise AutointerpError(
            f"{place}: asks up to {needed} questions about a latent one after another, each in a"
            f" wave that may take 24 hours; set {' '.join(wanted)} to accept that, or ask a"
            " language model of another backend"
        )
