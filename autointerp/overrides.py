"""A configuration file as plain values, and the ``key.sub=value`` overrides that go into it.

Values are read as YAML, so that ``a.b=[1, 2]`` is a list.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from autointerp.complaints import noun
from autointerp.latents import AutointerpError
from autointerp.sections import (
    DEFAULT_EXPLAINER,
    DEFAULT_LATENTS,
    DEFAULT_SCORERS,
    DEMO_CODERS,
    CoderSection,
)

_KINDS = ("explainer", "scorers")  # sections whose kind says which options they have
_NAMED = (("subject", "coders"), ("latents",))  # mappings whose keys are names, dots and all


def read_tree(path: Path) -> dict[str, Any]:
    """A configuration file as plain values. Raises AutointerpError with one line."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AutointerpError(f"no configuration file at {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise AutointerpError(f"cannot read the configuration {path}: {error}") from error
    except yaml.YAMLError as error:
        raise AutointerpError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise AutointerpError(f"{path}: expected sections such as `run:`, found a {noun(tree)}")
    return tree


def apply_overrides(tree: dict[str, Any], overrides: Iterable[str]) -> None:
    """Put every override into the tree.

    Raises:
        AutointerpError: naming the override that is none, or has no place.
    """
    pairs = [_parse_override(text) for text in overrides]
    for keys, value in sorted(pairs, key=lambda pair: _turn(pair[0])):
        _set(tree, keys, value)


def _parse_override(text: str) -> tuple[list[str], Any]:
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise AutointerpError(f"{text!r} is not an override; write key.sub=value")
    try:
        return _keys(path.strip()), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise AutointerpError(f"{text!r}: {' '.join(str(error).split())}") from error


def _turn(keys: Sequence[str]) -> tuple[bool, float, bool]:
    """When an override is applied: latents are named after coders, and explainers, scorers, kinds
    and tiers say which options there are; those come first, the outer before the inner."""
    first = keys[-1] in ("kind", "tiers", *_KINDS)
    return keys[0] == "latents", len(keys) if first else math.inf, keys[-1] != "kind"


def _keys(path: str) -> list[str]:
    """Split a dotted path, but for the names of coders, which hold dots themselves."""
    keys = path.split(".")
    for prefix in _NAMED:
        rest = keys[len(prefix) :]
        if tuple(keys[: len(prefix)]) != prefix or not rest:
            continue
        if prefix == ("subject", "coders") and len(rest) > 1 and rest[-1] in _CODER_KEYS:
            return [*prefix, ".".join(rest[:-1]), rest[-1]]
        return [*prefix, ".".join(rest)]
    return keys


_CODER_KEYS = frozenset(CoderSection.model_fields)


def _set(tree: dict[str, Any], keys: list[str], value: Any) -> None:
    """Put ``value`` at the path ``keys``, making mappings on the way."""
    _fill_in(tree, keys)
    node: Any = tree
    key: Any
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(node, list):
            node, key = _list_item(node, keys, depth)
        if not isinstance(node, dict | list):
            raise AutointerpError(f"{'.'.join(keys)}: {'.'.join(keys[:depth])} has no keys")
        if last and keys[0] in _KINDS and isinstance(node, dict) and _begins_anew(node, key):
            node.clear()  # the options of another kind mean nothing to this one
        if last:
            node[key] = value
        elif isinstance(node, dict) and isinstance(node.get(key), str) and depth == 2:
            node[key] = {"path": node[key]}  # a coder in short form
            node = node[key]
        else:
            node = node.setdefault(key, {}) if isinstance(node, dict) else node[key]


def _begins_anew(section: Mapping[str, Any], key: str) -> bool:
    """Whether setting ``key`` makes a section one of another kind; a cascade's new tiers do not."""
    return key == "kind" or (key == "tiers" and "tiers" not in section)


def _list_item(node: list[Any], keys: list[str], depth: int) -> tuple[list[Any], Any]:
    key = keys[depth]
    if not key.isdecimal() or int(key) >= len(node):
        where = ".".join(keys[:depth])
        raise AutointerpError(f"{'.'.join(keys)}: {where} is a list of {len(node)}; count from 0")
    return node, int(key)


def _fill_in(tree: dict[str, Any], keys: list[str]) -> None:
    """Write out the defaults that an override goes into, so that it changes only its own."""
    if keys[:2] == ["subject", "coders"] and len(keys) > 2:
        tree.setdefault("subject", {}).setdefault("coders", dict.fromkeys(DEMO_CODERS, "demo"))
    if keys[0] == "latents" and len(keys) > 1:
        coders = tree.get("subject", {}).get("coders") or DEMO_CODERS
        tree.setdefault("latents", {str(name): DEFAULT_LATENTS for name in coders})
    if keys[0] == "scorers" and len(keys) > 1:
        tree.setdefault("scorers", [{"kind": kind} for kind in DEFAULT_SCORERS])
    if keys[0] == "explainer" and len(keys) > 1:
        tree.setdefault("explainer", {"kind": DEFAULT_EXPLAINER})
