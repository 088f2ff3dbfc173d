"""What failed in a run, and why: every failure, and many reasons in few words."""

from __future__ import annotations

import re
from collections import Counter

from autointerp.latents import LatentId
from autointerp.pipeline.results import Results
from autointerp.pipeline.standings import SELECT

MOST_SHOWN = 40  # characters of a reason that is of no known kind
_NOT_JUDGED = "no item was judged: "
_KINDS = (
    (re.compile(r"no answer in \d+ attempts"), "no answer"),
    (re.compile(r"gave no usable reply"), "no usable reply"),
    (re.compile(r"the server answered (\d+)"), r"server answered \1"),
    (re.compile(r"^(\w+): "), r"\1"),  # an exception's name
)
_EXPLAINING = "FROM explanations WHERE status = 'failed' AND (explainer = ?1 OR kind = 'output')"
_SCORING = (
    f"FROM scores WHERE status = 'failed' AND scorer != '{SELECT}'"
    " AND (explanation GLOB '*:input:' || ?1 OR explanation GLOB '*:output:*')"
)


def kind_of(reason: str) -> str:
    """What a reason is an instance of."""
    told = reason.removeprefix(_NOT_JUDGED)
    for pattern, name in _KINDS:
        if found := pattern.search(told):
            return found.expand(name)
    return told.partition(":")[0][:MOST_SHOWN]


def failures(results: Results, explainer: str) -> list[tuple[LatentId, str]]:
    """Every failed explanation of this explainer, or of what latents cause, with the reason; then
    every failed score of those."""
    explaining = f"SELECT coder, latent, '', reason {_EXPLAINING} ORDER BY coder, latent, kind"
    scoring = (
        f"SELECT coder, latent, trim(scorer || ' ' || control) || ': ', reason {_SCORING}"
        " ORDER BY coder, latent, scorer, control"
    )
    return [
        (LatentId(coder, index), f"{what}{reason or ''}")
        for query in (explaining, scoring)
        for coder, index, what, reason in results.query(query, (explainer,))
    ]


def failure_kinds(results: Results, explainer: str) -> dict[str, int]:
    """How many of :func:`failures` there are by kind, the commonest first."""
    reasons = f"SELECT reason {_EXPLAINING} UNION ALL SELECT reason {_SCORING}"
    kinds = Counter(kind_of(reason or "") for (reason,) in results.query(reasons, (explainer,)))
    return dict(kinds.most_common())
