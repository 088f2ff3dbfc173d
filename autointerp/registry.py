"""Kinds of things a run can be made of: explainers, scorers, judges.

A kind is a name with an implementation and a pydantic model of its options. Built-ins
register by decorator when their package is first looked at; other packages join through an
entry-point group, by the same decorator.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict

from autointerp.complaints import hint, known_list
from autointerp.latents import AutointerpError

ASKING = frozenset({"client", "roles_factory"})  # needs that a language model answers


class Turns(NamedTuple):
    """Questions about one latent that are asked one after another, repairs not counted: so many
    of them ``own``, to the language model that the options name, and so many of the judge."""

    own: int
    judge: int


class Options(BaseModel):
    """Base of every options model: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def needs(self) -> frozenset[str]:
        """What the implementation takes beside options and seed: names of keyword arguments.

        The engine supplies ``client`` (the language model that ``self.llm`` names),
        ``templates``, ``judge``, ``probes``, ``refused``, ``encode``, ``roles_factory``,
        ``rivals``, ``others``, ``steering``, ``prefixes``, ``effects``, ``embedder`` and
        ``base_lm`` (the model that ``self.model`` names, else the subject).
        """
        return frozenset()

    @property
    def asks(self) -> bool:
        """Whether a language model answers what is asked with these options."""
        return bool(self.needs() & ASKING)

    @property
    def echoes(self) -> bool:
        """Whether that language model is asked how likely texts are, rather than for answers."""
        return False

    @property
    def turns(self) -> Turns:
        """How many questions follow one another at most. Where they go out in waves, each takes
        one. Those that do not wait for one another's answers must be asked together."""
        return Turns(int(self.asks), int("judge" in self.needs()))

    @property
    def most_texts(self) -> int | None:
        """How many texts one prompt of the scorer's judge may hold; None if that is open."""
        return None

    @property
    def patience(self) -> float | None:
        """Seconds after which a latent is given up, waiting included; None if it never is."""
        return None

    @property
    def patterns_alone(self) -> bool:
        """Whether a scorer with these options reads no explanations but patterns, by itself and
        not because of its judge."""
        return False


T = TypeVar("T")
C = TypeVar("C", bound=type)


@dataclass(frozen=True)
class Kind(Generic[T]):
    name: str
    implementation: type[T]
    options: type[Options]


class Registry(Generic[T]):
    """Maps a kind's name to its implementation and options model."""

    def __init__(self, noun: str, package: str, group: str | None = None) -> None:
        self.noun = noun
        self.package = package
        self.group = group or package
        self._kinds: dict[str, Kind[T]] = {}
        self._loaded = False

    def register(self, name: str, options: type[Options] = Options) -> Callable[[C], C]:
        """Decorate the class that implements ``name``.

        Raises:
            AutointerpError: if the name is taken.
        """

        def add(implementation: C) -> C:
            if name in self._kinds:
                raise AutointerpError(f"there are two {self.noun}s named {name!r}; rename one")
            self._kinds[name] = Kind(name, implementation, options)
            return implementation

        return add

    def names(self) -> list[str]:
        self._load()
        return sorted(self._kinds)

    def get(self, name: str) -> Kind[T]:
        """Look a kind up.

        Raises:
            AutointerpError: naming the nearest kinds, if there is none of that name.
        """
        self._load()
        if name not in self._kinds:
            known = sorted(self._kinds)
            near = f"{hint(name, known)}{known_list(known)}"
            raise AutointerpError(f"no {self.noun} of kind {name!r}{near}")
        return self._kinds[name]

    def options(self, section: Mapping[str, Any]) -> tuple[Kind[T], Options]:
        """Read ``{kind: …, option: …}``; pydantic errors name the option."""
        kind = self.get(str(section.get("kind")))
        return kind, kind.options.model_validate({k: v for k, v in section.items() if k != "kind"})

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        for entry in entry_points(group=self.group):
            entry.load()


explainers: Registry[Any] = Registry("explainer", "autointerp.explainers")
scorers: Registry[Any] = Registry("scorer", "autointerp.scorers")
judges: Registry[Any] = Registry("judge", "autointerp.judges")
