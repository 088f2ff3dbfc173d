"""What of a run is fit to be published: no key, no server's address, no place on this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from autointerp.config import RunConfig

_LLM = ("backend", "model", "temperature", "max_tokens", "structured", "prices")
_DROPPED = ("journal", "prompts", "engine")  # sections that say where and how, not what
_HIDDEN = "…"
_SHORTEST_SECRET = 6
_ABSOLUTE = re.compile(r"^([/~\\]|\.{1,2}[/\\]|[A-Za-z]:[/\\])")


class Public:
    """Takes from texts and settings what is nobody else's business.

    The same value comes out of a value that has been through it.
    """

    def __init__(self, run: Path, config: RunConfig) -> None:
        self._config = config
        tree = config.model_dump(mode="json")
        places = [run.absolute(), run.resolve(), Path.home(), Path.cwd()]
        places += [Path(path).parent for path in _absolute(tree)]
        hidden = {str(place) for place in places if len(place.parts) > 1}
        for llm in config.llms.values():
            secret = os.environ.get(llm.api_key_env, "")
            hidden |= {secret} if len(secret) >= _SHORTEST_SECRET else set()
            hidden |= {llm.base_url} if llm.base_url else set()
        longest = sorted(hidden, key=lambda text: (-len(text), text))
        self._pattern = re.compile("|".join(map(re.escape, longest)) or r"(?!)")

    def hide(self, text: str) -> str:
        """A message without the places, addresses and keys of this machine."""
        return self._pattern.sub(_HIDDEN, text)

    def config(self) -> dict[str, Any]:
        """The run's configuration as far as it says what was done; it can be read again."""
        tree = self._config.model_dump(mode="json")
        kept = {key: value for key, value in tree.items() if key not in _DROPPED}
        kept["run"] = {"name": tree["run"]["name"], "seed": tree["run"]["seed"]}
        kept["llms"] = {name: {key: llm[key] for key in _LLM} for name, llm in tree["llms"].items()}
        shortened: dict[str, Any] = self.value(kept)
        return shortened

    def settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that the rows depend on, but for those that may hold secrets."""
        return {
            name: self.value(value)
            for name, value in sorted(settings.items())
            if ".extra_body" not in name
        }

    def value(self, value: Any) -> Any:
        """A value of JSON's types with only the last part of every path outside the run."""
        if isinstance(value, str):
            return _last(value) if _ABSOLUTE.match(value) else self.hide(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            return {key: self.value(item) for key, item in value.items()}
        return value


def _last(path: str) -> str:
    kind = PureWindowsPath if "\\" in path or path[1:2] == ":" else PurePosixPath
    return kind(path).name or _HIDDEN


def _absolute(tree: Any) -> Iterable[str]:
    """Every absolute path in a tree of plain values."""
    if isinstance(tree, str):
        if tree.startswith(("/", "~")):
            yield os.path.expanduser(tree)
    elif isinstance(tree, dict | list):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from _absolute(value)
