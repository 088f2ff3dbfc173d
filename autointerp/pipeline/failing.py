"""The kinds of failures in a run: many reasons in few words."""

from __future__ import annotations

import re
from collections import Counter

from autointerp.pipeline.results import Results

MOST_SHOWN = 40  # characters of a reason that is of no known kind
_NOT_JUDGED = "no item was judged: "
_KINDS = (
    (re.compile(r"no answer in \d+ attempts"), "no answer"),
    (re.compile(r"gave no usable reply"), "no usable reply"),
    (re.compile(r"the server answered (\d+)"), r"server answered \1"),
    (re.compile(r"^(\w+): "), r"\1"),  # an exception's name
)
_FAILED = """
SELECT reason FROM explanations WHERE status = 'failed' AND (explainer = ?1 OR kind = 'output')
UNION ALL SELECT reason FROM scores WHERE status = 'failed'
    AND (explanation LIKE '%:input:' || ?1 OR explanation LIKE '%:output:%')
"""


def kind_of(reason: str) -> str:
    """What a reason is an instance of."""
    told = reason.removeprefix(_NOT_JUDGED)
    for pattern, name in _KINDS:
        if found := pattern.search(told):
            return found.expand(name)
    return told.partition(":")[0][:MOST_SHOWN]


def failure_kinds(results: Results, explainer: str) -> dict[str, int]:
    """How many explanations and scores failed, by kind, the commonest first."""
    kinds = Counter(kind_of(reason or "") for (reason,) in results.query(_FAILED, (explainer,)))
    return dict(kinds.most_common())
