"""The tables of a published run: their columns.

A table has a row for everything that it tells of, in the order of the results' keys; all tables
join on ``latent``. What JSON alone can hold is a column of JSON with sorted keys.
"""

from __future__ import annotations

import pyarrow as pa

_LATENT = [("latent", pa.string()), ("index", pa.int64())]  # "layers.1/3", 3
_EXACT = [("exact", pa.string())]
_COST = pa.struct(
    [
        ("requests", pa.int64()),
        ("prompt_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("dollars", pa.float64()),
        ("seconds", pa.float64()),
    ]
)
_INTERVAL = [("low", pa.float64()), ("high", pa.float64()), ("n", pa.int64())]
_METRIC = pa.struct([("name", pa.string()), ("value", pa.float64()), *_INTERVAL])

EXPLANATIONS = pa.schema(
    [
        *_LATENT,
        ("id", pa.string()),
        ("kind", pa.string()),
        ("explainer", pa.string()),
        ("text", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("components", pa.list_(pa.string())),
        ("confidence", pa.float64()),
        ("cost", _COST),
        ("details", pa.string()),
        *_EXACT,
    ]
)
EVENTS = pa.schema(
    [
        *_LATENT,
        ("explanation", pa.string()),
        ("kind", pa.string()),
        ("place", pa.int64()),
        ("text", pa.string()),
        ("data", pa.string()),
        *_EXACT,
    ]
)
SCORES = pa.schema(
    [
        *_LATENT,
        ("explanation", pa.string()),
        ("scorer", pa.string()),
        ("control", pa.string()),
        ("judge", pa.string()),
        ("headline", pa.string()),
        ("value", pa.float64()),
        *_INTERVAL,
        ("chance", pa.float64()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("metrics", pa.list_(_METRIC)),
        ("cost", _COST),
        ("details", pa.string()),
        *_EXACT,
    ]
)
OUTCOMES = pa.schema(
    [
        *_LATENT,
        ("explanation", pa.string()),
        ("scorer", pa.string()),
        ("control", pa.string()),
        ("place", pa.int64()),
        ("kind", pa.string()),
        ("source", pa.string()),
        ("decile", pa.int64()),
        ("truth", pa.bool_()),
        ("label", pa.bool_()),
        ("probability", pa.float64()),
        ("options", pa.int64()),
        ("right", pa.int64()),
        ("chosen", pa.int64()),
        ("true_values", pa.list_(pa.float64())),
        ("predicted_values", pa.list_(pa.float64())),
        ("value", pa.float64()),
        ("reason", pa.string()),
        ("request", pa.string()),
    ]
)
LATENTS = pa.schema(
    [
        *_LATENT,
        ("firing_count", pa.int64()),
        ("density", pa.float64()),
        ("maximum", pa.float64()),
        ("mean", pa.float64()),
        ("quantiles", pa.list_(pa.float32())),
        ("top_tokens", pa.list_(pa.struct([("token", pa.string()), ("count", pa.int64())]))),
        ("logit_lens", pa.list_(pa.string())),
    ]
)
EXAMPLES = pa.schema(
    [
        *_LATENT,
        ("split", pa.string()),
        ("kind", pa.string()),
        ("place", pa.int64()),
        ("document", pa.int64()),
        ("start", pa.int64()),
        ("maximum", pa.float32()),
        ("tokens", pa.list_(pa.string())),
        ("activations", pa.list_(pa.float32())),
    ]
)
TABLES = {
    "explanations": EXPLANATIONS,
    "scores": SCORES,
    "outcomes": OUTCOMES,
    "events": EVENTS,
    "latents": LATENTS,
    "examples": EXAMPLES,
}
