"""A run's configuration as pages show it: without anything that should not be seen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from autointerp.pipeline import directory

HIDDEN = "(hidden)"
FREE_FORM = ("extra_body", "serve")  # of a language model: secrets may have any name there
_SECRET = re.compile("key|secret|password|token|credential|authorization", re.IGNORECASE)
_USER = re.compile(r"(?<=://)[^/@\s]+@")
_QUERY = re.compile(r"(://[^\s?#]*)[?#]\S*")
Tree = dict[str, Any]


def configuration(run: Path) -> Tree:
    """The resolved configuration, without what might be secret; empty if there is none."""
    path = run / directory.CONFIG
    tree: Tree = yaml.safe_load(path.read_text("utf-8")) if path.exists() else {}
    shown: Tree = without_secrets(tree)
    return shown


def as_yaml(tree: Tree) -> str:
    """A configuration as it is written; nothing of an empty one."""
    text: str = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True) if tree else ""
    return text


def without_secrets(value: Any, name: str = "", hidden: bool = False) -> Any:
    """A tree in which texts under names such as ``api_key`` and in free-form fields are hidden,
    and URLs have neither users nor queries."""
    if isinstance(value, dict):
        return {
            key: without_secrets(below, str(key), hidden or key in FREE_FORM)
            for key, below in value.items()
        }
    if isinstance(value, list):
        return [without_secrets(below, name, hidden) for below in value]
    if not isinstance(value, str):
        return value
    if hidden or _SECRET.search(name):
        return HIDDEN
    return _QUERY.sub(r"\1", _USER.sub("", value))
