"""The nouns of the project: latents, examples, explanations, outcomes and scores.

Everything here is plain data. Arrays are numpy.
"""

from autointerp.latents.names import (
    HARD_SOURCES,
    SOURCES,
    SPLITS,
    AutointerpError,
    LatentId,
    Source,
    Split,
    Status,
)
from autointerp.latents.scores import (
    Choice,
    Cost,
    Explanation,
    Failure,
    Label,
    Metric,
    Number,
    Outcome,
    Score,
    Values,
)
from autointerp.latents.windows import (
    Background,
    Evidence,
    Example,
    ExampleBlock,
    Item,
    LabelledSet,
    Statistics,
)

__all__ = [
    "HARD_SOURCES",
    "SOURCES",
    "SPLITS",
    "AutointerpError",
    "Background",
    "Choice",
    "Cost",
    "Evidence",
    "Example",
    "ExampleBlock",
    "Explanation",
    "Failure",
    "Item",
    "Label",
    "LabelledSet",
    "LatentId",
    "Metric",
    "Number",
    "Outcome",
    "Score",
    "Source",
    "Split",
    "Statistics",
    "Status",
    "Values",
]
