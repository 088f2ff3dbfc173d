"""The sections of a configuration that name a kind: its options written out, and its judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import ValidationError

from autointerp.complaints import complaint
from autointerp.latents import AutointerpError
from autointerp.registry import Options, Registry, explainers, judges, scorers
from autointerp.sections import CASCADE, CascadeSection

PATTERN = "pattern"  # the judge that reads nothing but patterns


def build_options(registry: Registry[Any], section: Mapping[str, Any], where: str) -> Options:
    """The options object of a section such as ``{kind: detection, …}``.

    Raises:
        AutointerpError: naming the kind or the option that is wrong.
    """
    if "kind" not in section:
        known = ", ".join(registry.names())
        raise AutointerpError(f"{where}: name its kind (known: {known})")
    kind = registry.get(str(section["kind"]))
    try:
        return registry.options(section)[1]
    except ValidationError as error:
        raise AutointerpError(f"{where}: {complaint(error, kind.options)}") from error


def resolve_kind(
    registry: Registry[Any],
    section: Mapping[str, Any],
    where: str,
    writes: Literal["input", "output"] = "input",
) -> dict[str, Any]:
    """The section with all its own options, and the judge that answers it: unless said, a
    language model for what itself needs one, else ``pattern``.

    ``writes`` is the kind of explanations that an explainer in this place must write.

    Raises:
        AutointerpError: naming what is wrong; an explainer's judge must read what it writes.
    """
    own = without_judge(section)
    options = build_options(registry, own, where)
    if registry is explainers:
        _check_writes(str(own["kind"]), where, writes)
    resolved = {"kind": own["kind"], **options.model_dump(mode="json")}
    if "judge" not in options.needs():
        if "judge" in section:
            raise AutointerpError(f"{where}: {own['kind']} asks no judge; leave out {where}.judge")
        return resolved
    judge = _resolve_judge(section.get("judge") or _judge_of([options]), where)
    if registry is explainers:
        check_judge(judge, [resolved], where)
    return {**resolved, "judge": judge}


def _check_writes(kind: str, where: str, wanted: str) -> None:
    """Refuse an explainer of what latents cause where one of what they fire on belongs, and the
    other way round."""
    written = getattr(explainers.get(kind).implementation, "writes", "input")
    if written != wanted:
        place = "effects" if written == "output" else "explainer"
        raise AutointerpError(f"{where}: {kind} writes {written} explanations; put it in {place}")


def resolve_cascade(section: Mapping[str, Any]) -> dict[str, Any]:
    """Every tier resolved as an explainer, and the judge that can read all of them.

    Raises:
        AutointerpError: naming what is wrong.
    """
    if section.get("kind", CASCADE) != CASCADE:
        raise AutointerpError(
            f"explainer: {section['kind']} has no tiers; put it into explainer.tiers"
        )
    if "tiers" not in section:
        raise AutointerpError("explainer: a cascade has tiers; name them under explainer.tiers")
    try:
        cascade = CascadeSection.model_validate(section)
    except ValidationError as error:
        raise AutointerpError(f"explainer: {complaint(error, CascadeSection)}") from error
    tiers = [
        resolve_kind(explainers, tier, f"explainer.tiers.{i}")
        for i, tier in enumerate(cascade.tiers)
    ]
    options = [build_options(explainers, without_judge(tier), "explainer.tiers") for tier in tiers]
    judge = _resolve_judge(cascade.judge or _judge_of(options), "explainer")
    check_judge(judge, tiers, "explainer")
    return {**cascade.model_dump(mode="json"), "tiers": tiers, "judge": judge}


def check_judge(judge: Mapping[str, Any], tiers: Sequence[Mapping[str, Any]], where: str) -> None:
    """Refuse a judge of patterns for the texts of explainers that ask a language model.

    Raises:
        AutointerpError: naming the judge's place and the explainer.
    """
    if judge["kind"] == PATTERN:
        _refuse_other_texts(tiers, where, f"{where}.judge")


def check_scorer(
    section: Mapping[str, Any], tiers: Sequence[Mapping[str, Any]], where: str
) -> None:
    """Refuse a resolved scorer, or its judge, that cannot read what the explainers write, and a
    judge whose prompts hold more texts than the scorer allows.

    Raises:
        AutointerpError: naming the option's place and, of the first, the explainer.
    """
    if "judge" in section:
        check_judge(section["judge"], tiers, where)
        _check_texts(section, where)
    elif reads_patterns_alone(section, where):
        _refuse_other_texts(tiers, where, f"{where}.by")


def _check_texts(section: Mapping[str, Any], where: str) -> None:
    most = build_options(scorers, without_judge(section), where).most_texts
    texts = section["judge"].get("texts_per_prompt", 1)
    if most is not None and texts > most:
        raise AutointerpError(
            f"{where}.judge.texts_per_prompt: {texts} are too many with sequential: true: just"
            f" half of all texts in a block fit; use at most {most}"
        )


def reads_patterns_alone(section: Mapping[str, Any], where: str) -> bool:
    """Whether a resolved scorer, or its judge, reads no explanations but patterns."""
    if "judge" in section:
        return bool(section["judge"]["kind"] == PATTERN)
    return build_options(scorers, section, where).patterns_alone


def _refuse_other_texts(tiers: Sequence[Mapping[str, Any]], where: str, option: str) -> None:
    for tier in tiers:
        if build_options(explainers, without_judge(tier), where).asks:
            raise AutointerpError(
                f"{option}: pattern reads patterns alone, and {tier['kind']} writes other"
                f" texts; use {option}=llm"
            )


def all_options(
    registry: Registry[Any], section: Mapping[str, Any], where: str
) -> list[tuple[str, Options]]:
    """The options of a resolved section and of its judge, each with its place."""
    own = build_options(registry, without_judge(section), where)
    return [(where, own), *judge_options(section, where)]


def judge_options(section: Mapping[str, Any], where: str) -> list[tuple[str, Options]]:
    """The options of a resolved section's judge with their place, if it has one."""
    if "judge" not in section:
        return []
    where = f"{where}.judge"
    return [(where, build_options(judges, section["judge"], where))]


def _judge_of(options: Sequence[Options]) -> str:
    """The judge of texts by explainers with these options: those of the ones that ask a language
    model are no patterns."""
    return "llm" if any(o.asks for o in options) else PATTERN


def _resolve_judge(judge: str | Mapping[str, Any], where: str) -> dict[str, Any]:
    section = {"kind": judge} if isinstance(judge, str) else judge
    options = build_options(judges, section, f"{where}.judge")
    return {"kind": section["kind"], **options.model_dump(mode="json")}


def without_judge(section: Mapping[str, Any]) -> dict[str, Any]:
    """A section's kind and its own options."""
    return {key: value for key, value in section.items() if key != "judge"}
