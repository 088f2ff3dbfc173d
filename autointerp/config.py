"""The configuration of a run: one frozen pydantic model per section of the YAML file.

``RunConfig()`` is the embedded demo. A file stands on its own: what it leaves out has the
defaults written here. ``key.sub=value`` overrides are read as YAML, so that ``a.b=[1, 2]``
is a list.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from autointerp.latents import AutointerpError
from autointerp.registry import Options, Registry, explainers, judges, scorers

DEMO = Path(__file__).parent / "demo"
DEMO_CODERS = ("layers.0", "layers.1")
DEFAULT_LATENTS = "alive:40"
_ASKING = frozenset({"client", "roles_factory"})  # needs that a language model answers
_STAGES = {"explainer": "explain", "scorers": "score"}
CASCADE = "cascade"  # the explainer of a run whose ``explainer`` has tiers
_NAMED = (("subject", "coders"), ("latents",))  # mappings whose keys are names, dots and all


class Section(BaseModel):
    """Base of every section: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunSection(Section):
    """Where the run lies (``directory/name``) and the seed of every choice made in it."""

    name: str = Field(default="demo", min_length=1)
    directory: Path = Path("runs")
    seed: int = 0

    @property
    def path(self) -> Path:
        return self.directory / self.name


class CoderSection(Section):
    """One sparse coder: a checkpoint's path or hub id, and where it reads and writes.

    ``hook`` defaults to what the checkpoint claims, else to the coder's name.
    """

    path: str
    hook: str | None = None
    hook_out: str | None = None
    revision: str | None = None


class SubjectSection(Section):
    """The language model under study and its coders, by name."""

    model: str = "demo"
    revision: str | None = None
    coders: dict[str, CoderSection] = Field(
        default_factory=lambda: {name: CoderSection(path="demo") for name in DEMO_CODERS}
    )
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "auto"
    device_map: str | dict[str, int | str] | None = None
    context_length: int = Field(default=256, ge=2)
    batch_tokens: int = Field(default=8192, ge=1)
    bos: Literal["skip", "keep"] = "skip"

    @field_validator("coders", mode="before")
    @classmethod
    def _short_form(cls, coders: Any) -> Any:
        """Read ``NAME: path`` as ``NAME: {path: path}``."""
        if not isinstance(coders, dict):
            return coders
        return {
            str(name): {"path": coder} if isinstance(coder, str) else coder
            for name, coder in coders.items()
        }

    @model_validator(mode="after")
    def _coders_fit_the_model(self) -> Self:
        if not self.coders:
            raise ValueError("name at least one sparse coder, as in coders: {layers.1: PATH}")
        if self.model != "demo" and "coders" not in self.model_fields_set:
            raise ValueError(f"the demo's coders do not read {self.model!r}; give coders too")
        return self


class CorpusSection(Section):
    """Where the text comes from: a file, a folder, a hub data set, or ``stdlib``."""

    source: str = Field(default="stdlib", min_length=1)
    column: str = "text"
    tokens: int = Field(default=1_000_000, ge=1)


class SplitsSection(Section):
    """The share of documents in each split; the three add up to 1."""

    explain: float = Field(default=0.4, gt=0, lt=1)
    select: float = Field(default=0.2, gt=0, lt=1)
    test: float = Field(default=0.4, gt=0, lt=1)

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        total = self.explain + self.select + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"explain, select and test must add up to 1, not {total:g}")
        return self


class ExplainWindows(Section):
    """How many EXPLAIN windows a latent keeps: the largest, and a uniform sample."""

    top: int = Field(default=40, ge=1)
    sampled: int = Field(default=200, ge=1)


class SelectWindows(Section):
    """How many SELECT windows a latent keeps."""

    sampled: int = Field(default=60, ge=1)


class TestWindows(Section):
    """How many TEST windows a latent keeps."""

    __test__ = False  # pytest: not a test

    sampled: int = Field(default=120, ge=1)


class ExamplesSection(Section):
    """The geometry of the example store; ``window`` is in tokens, ``background`` in windows."""

    window: int = Field(default=32, ge=2)
    background: int = Field(default=4096, ge=1)
    splits: SplitsSection = SplitsSection()
    explain: ExplainWindows = ExplainWindows()
    select: SelectWindows = SelectWindows()
    test: TestWindows = TestWindows()


class PriceSection(Section):
    """Dollars for a million tokens; ``cached`` prompt tokens cost as the others unless said."""

    prompt: float = Field(ge=0)
    cached: float | None = Field(default=None, ge=0)
    completion: float = Field(ge=0)


class ServeSection(Section):
    """How a run starts a vLLM server of its own.

    ``command`` may be that of another environment; the model stands where it says ``{model}``, or
    after it. The server gets ``gpus`` (counted among the visible ones; all if there are none
    here): ``data_parallel`` replicas, one a GPU unless said, with an equal share of them each.
    ``args`` are further arguments of ``vllm serve``.
    """

    command: list[str] = Field(default=["vllm", "serve"], min_length=1)
    gpus: list[Annotated[int, Field(ge=0)]] = Field(default_factory=list)
    data_parallel: int | None = Field(default=None, ge=1)
    args: list[str] = Field(default_factory=list)
    startup_minutes: float = Field(default=30.0, gt=0)

    @field_validator("args")
    @classmethod
    def _loopback_only(cls, args: list[str]) -> list[str]:
        for arg in args:
            if arg.partition("=")[0] in ("--host", "--port", "--uds"):
                raise ValueError(f"leave {arg} out: the server is on a free port of 127.0.0.1")
        return args

    @model_validator(mode="after")
    def _equal_shares(self) -> Self:
        if len(set(self.gpus)) < len(self.gpus):
            raise ValueError(f"gpus: {self.gpus} names one twice")
        if self.gpus and len(self.gpus) % (self.data_parallel or 1):
            raise ValueError(
                f"data_parallel: {len(self.gpus)} GPUs are no equal shares"
                f" for {self.data_parallel} replicas"
            )
        return self


class LLMSection(Section):
    """One language model that a run talks to, through any OpenAI-compatible endpoint.

    ``base_url`` is OpenAI's own unless given; it stands for a server that already runs. Without
    it, ``backend: vllm`` starts one as ``serve`` says.
    ``temperature`` and ``max_tokens`` replace what the prompts ask for. ``extra_body`` is merged
    into every request; a null there leaves a field out (``{temperature: null}`` for models that
    take none). ``structured`` says how replies are held to a schema: by the server, by the prompt,
    or whichever works. The key itself is read from the environment variable ``api_key_env`` and
    stands nowhere else.
    """

    backend: Literal["openai", "vllm"] = "openai"
    model: str = Field(min_length=1)
    base_url: str | None = None
    api_key_env: str = Field(default="OPENAI_API_KEY", min_length=1)
    requests_per_minute: int | None = Field(default=None, ge=1)
    concurrency: int = Field(default=32, ge=1)
    timeout: float = Field(default=120.0, gt=0)
    temperature: float | None = Field(default=None, ge=0)
    max_tokens: int | None = Field(default=None, ge=1)
    structured: Literal["auto", "schema", "prompt"] = "auto"
    prices: PriceSection | None = None
    extra_body: dict[str, Any] = Field(default_factory=dict)
    serve: ServeSection | None = None

    @model_validator(mode="after")
    def _serves_what_it_starts(self) -> Self:
        if self.serve is not None and (self.backend != "vllm" or self.base_url is not None):
            raise ValueError("serve is for backend: vllm without a base_url")
        return self

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, url: str | None) -> str | None:
        if url is None:
            return url
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is not a URL; write http://HOST:PORT/v1")
        if "@" in url.partition("://")[2].partition("/")[0]:
            raise ValueError("a URL with a password would be written to files; use api_key_env")
        return url.rstrip("/")


class BudgetSection(Section):
    """What a run may spend in all, however often it is resumed; ``hours`` count from each start."""

    dollars: float | None = Field(default=None, ge=0)
    prompt_tokens: int | None = Field(default=None, ge=0)
    hours: float | None = Field(default=None, ge=0)


class EngineSection(Section):
    """What spreads the tasks, and how many latents are in flight at once."""

    kind: Literal["local"] = "local"
    concurrency: int = Field(default=64, ge=1)


class CascadeSection(Section):
    """Explainers from the cheapest to the dearest, one of a kind.

    All latents are explained by the first. The next ones try those alone whose explanations are
    all below ``escalate_below`` on SELECT, as ``judge`` has it: ``pattern`` where every tier
    writes patterns, else a language model, unless said. ``select`` is how many SELECT windows of
    each kind (active, random, hard) are judged: 20 by a language model, all by patterns, unless
    given.
    """

    kind: Literal["cascade"] = "cascade"
    tiers: list[dict[str, Any]]
    escalate_below: float = Field(default=0.8, ge=0, le=1)
    judge: str | dict[str, Any] | None = None
    select: int | None = Field(default=None, ge=1)

    @field_validator("tiers")
    @classmethod
    def _some_and_each_once(cls, tiers: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if len(tiers) < 2:
            raise ValueError("name two or more, the cheapest first, as in [{kind: A}, {kind: B}]")
        kinds = [tier["kind"] for tier in tiers if "kind" in tier]
        for kind in kinds:
            if kinds.count(kind) > 1:
                raise ValueError(f"{kind!r} is listed twice; a cascade has one of a kind")
        return tiers


class RunConfig(Section):
    """Everything that decides what a run does."""

    run: RunSection = RunSection()
    subject: SubjectSection = SubjectSection()
    corpus: CorpusSection = CorpusSection()
    examples: ExamplesSection = ExamplesSection()
    latents: dict[str, str | list[int]] = Field(default_factory=dict)
    explainer: dict[str, Any] = Field(
        default_factory=lambda: {"kind": "pattern"}, validate_default=True
    )
    scorers: list[dict[str, Any]] = Field(
        default_factory=lambda: [{"kind": "detection"}], validate_default=True
    )
    llms: dict[str, LLMSection] = Field(default_factory=dict)
    budget: BudgetSection = BudgetSection()
    journal: Path | None = None
    prompts: Path | None = None
    engine: EngineSection = EngineSection()

    @model_validator(mode="before")
    @classmethod
    def _some_of_every_coder(cls, tree: Any) -> Any:
        """Without ``latents``, every coder gets the default sample."""
        if not isinstance(tree, dict) or tree.get("latents"):
            return tree
        subject = tree.get("subject") or {}
        coders = subject.get("coders") if isinstance(subject, dict) else subject.coders
        names = coders if isinstance(coders, dict) and coders else DEMO_CODERS
        return {**tree, "latents": {str(name): DEFAULT_LATENTS for name in names}}

    @field_validator("explainer")
    @classmethod
    def _known_explainer(cls, section: dict[str, Any]) -> dict[str, Any]:
        if "tiers" in section or section.get("kind") == CASCADE:
            return _resolve_cascade(section)
        return _resolve_judged(explainers, section, "explainer")

    @field_validator("scorers")
    @classmethod
    def _known_scorers(cls, sections: list[dict[str, Any]]) -> list[dict[str, Any]]:
        resolved = [_resolve_judged(scorers, s, f"scorers.{i}") for i, s in enumerate(sections)]
        kinds = [section["kind"] for section in resolved]
        for kind in kinds:
            if kinds.count(kind) > 1:
                raise AutointerpError(f"scorers: {kind!r} is listed twice; a run has one of a kind")
        return resolved

    @field_validator("latents", mode="before")
    @classmethod
    def _names_are_text(cls, latents: Any) -> Any:
        """YAML reads ``5: "1,2"`` as a number's mapping, and ``x: 3`` as a number."""
        if not isinstance(latents, dict):
            return latents
        return {str(k): str(v) if isinstance(v, int) else v for k, v in latents.items()}

    @model_validator(mode="after")
    def _latents_have_coders(self) -> Self:
        for name, wanted in self.latents.items():
            if name not in self.subject.coders:
                raise AutointerpError(
                    f"latents.{name}: no such coder"
                    f"{_hint(name, self.subject.coders)} (known: {', '.join(self.subject.coders)})"
                )
            parse_latents(wanted, f"latents.{name}")
        return self

    @model_validator(mode="after")
    def _language_models_are_named(self) -> Self:
        for where, options in self._all_options():
            name = getattr(options, "llm", None)
            if options.needs() & _ASKING and name not in self.llms:
                raise AutointerpError(
                    f"{where} needs a language model; describe it under llms.{name}, as in"
                    f" llms.{name}.model=NAME llms.{name}.base_url=http://HOST:PORT/v1"
                )
        return self

    @property
    def tiers(self) -> list[dict[str, Any]]:
        """The resolved sections of a cascade's explainers; else the one of the only explainer."""
        tiers: list[dict[str, Any]] = self.explainer.get("tiers", [self.explainer])
        return tiers

    def needs(self, stage: Literal["explain", "score"]) -> frozenset[str]:
        """What the kinds of a stage, and their judges, need beside their options."""
        found = [
            o.needs() for where, o in self._all_options() if _STAGES[where.split(".")[0]] == stage
        ]
        return frozenset().union(*found)

    def llm_names(self, stage: Literal["explain", "score"]) -> list[str]:
        """The language models that a stage asks."""
        found = {
            getattr(options, "llm", "")
            for where, options in self._all_options()
            if _STAGES[where.split(".")[0]] == stage and options.needs() & _ASKING
        }
        return sorted(found)

    def _all_options(self) -> list[tuple[str, Options]]:
        if self.explainer["kind"] == CASCADE:
            found = _judge_options(self.explainer, "explainer")
            for i, tier in enumerate(self.tiers):
                found += _options(explainers, tier, f"explainer.tiers.{i}")
        else:
            found = _options(explainers, self.explainer, "explainer")
        for i, section in enumerate(self.scorers):
            found += _options(scorers, section, f"scorers.{i}")
        return found

    def to_yaml(self) -> str:
        """The resolved file: reading it gives an equal configuration."""
        text: str = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
        return text


class Latents(Section):
    """What one entry of ``latents`` asks for: everything, a sample, or these indices."""

    kind: Literal["all", "alive", "indices"]
    count: int = 0
    indices: tuple[int, ...] = ()


def parse_latents(wanted: str | Sequence[int], where: str) -> Latents:
    """Read ``all``, ``alive:40``, ``3,5,10-20`` or a list of indices; ranges include both ends.

    Raises:
        AutointerpError: if it is none of those.
    """
    if not isinstance(wanted, str):
        if any(index < 0 for index in wanted):
            raise AutointerpError(f"{where}: latents count from 0; {min(wanted)} is negative")
        return Latents(kind="indices", indices=tuple(sorted(set(wanted))))
    text = wanted.replace(" ", "")
    if text == "all":
        return Latents(kind="all")
    head, colon, count = text.partition(":")
    if colon and head == "alive" and count.isdecimal() and int(count) > 0:
        return Latents(kind="alive", count=int(count))
    indices: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise AutointerpError(
                f"{where}: {wanted!r} names no latents; write all, alive:40, 3,5,10-20 or a list"
            )
        indices.update(range(int(first), int(last or first) + 1))
    if not indices:
        raise AutointerpError(f"{where}: {wanted!r} is an empty range")
    return Latents(kind="indices", indices=tuple(sorted(indices)))


def load_config(path: Path | None = None, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a configuration file (the embedded demo if None) and apply the overrides.

    Raises:
        AutointerpError: one line naming the file or key, and the nearest known key.
    """
    tree = _read(path) if path is not None else {}
    pairs = [_parse_override(text) for text in overrides]
    for keys, value in sorted(pairs, key=lambda pair: _turn(pair[0])):
        _set(tree, keys, value)
    return build_config(tree, str(path) if path is not None else "configuration")


def build_config(tree: Mapping[str, Any], where: str = "configuration") -> RunConfig:
    """Check a tree of plain values. Raises AutointerpError with one line."""
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise AutointerpError(f"{where}: {_explain(error, RunConfig)}") from error


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
        raise AutointerpError(f"{where}: {_explain(error, kind.options)}") from error


def _resolve(registry: Registry[Any], section: Mapping[str, Any], where: str) -> dict[str, Any]:
    options = build_options(registry, section, where)
    return {"kind": section["kind"], **options.model_dump(mode="json")}


def _resolve_judged(
    registry: Registry[Any], section: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """The section's own options, and the judge that answers it: unless said, a language model
    for what itself needs one, else ``pattern``."""
    own = {key: value for key, value in section.items() if key != "judge"}
    options = build_options(registry, own, where)
    resolved = {"kind": own["kind"], **options.model_dump(mode="json")}
    if registry is explainers and "judge" not in options.needs():
        if "judge" in section:
            raise AutointerpError(f"{where}: {own['kind']} asks no judge; leave out {where}.judge")
        return resolved
    judge = section.get("judge") or _judge_of(options)
    return {**resolved, "judge": _resolve_judge(judge, where)}


def _judge_of(*options: Options) -> str:
    """The judge of texts by explainers with these options: those of the ones that ask a language
    model are no patterns."""
    return "llm" if any(o.needs() & _ASKING for o in options) else "pattern"


def _resolve_judge(judge: str | Mapping[str, Any], where: str) -> dict[str, Any]:
    section = {"kind": judge} if isinstance(judge, str) else judge
    return _resolve(judges, section, f"{where}.judge")


def _resolve_cascade(section: Mapping[str, Any]) -> dict[str, Any]:
    """Every tier resolved as an explainer, and the judge that can read all of them."""
    if section.get("kind", CASCADE) != CASCADE:
        raise AutointerpError(
            f"explainer: {section['kind']} has no tiers; put it into explainer.tiers"
        )
    if "tiers" not in section:
        raise AutointerpError("explainer: a cascade has tiers; name them under explainer.tiers")
    try:
        cascade = CascadeSection.model_validate(section)
    except ValidationError as error:
        raise AutointerpError(f"explainer: {_explain(error, CascadeSection)}") from error
    places = [f"explainer.tiers.{i}" for i in range(len(cascade.tiers))]
    tiers = [
        _resolve_judged(explainers, tier, where)
        for tier, where in zip(cascade.tiers, places, strict=True)
    ]
    options = [
        _options(explainers, tier, where)[0][1] for tier, where in zip(tiers, places, strict=True)
    ]
    judge = _resolve_judge(cascade.judge or _judge_of(*options), "explainer")
    writers = [t["kind"] for t, o in zip(tiers, options, strict=True) if _judge_of(o) != "pattern"]
    if judge["kind"] == "pattern" and writers:
        raise AutointerpError(
            f"explainer.judge: pattern reads patterns alone, and {writers[0]} writes other texts;"
            " use explainer.judge=llm"
        )
    return {**cascade.model_dump(mode="json"), "tiers": tiers, "judge": judge}


def _options(
    registry: Registry[Any], section: Mapping[str, Any], where: str
) -> list[tuple[str, Options]]:
    """The options of a resolved section and of its judge, each with its place."""
    own = {key: value for key, value in section.items() if key != "judge"}
    return [(where, build_options(registry, own, where)), *_judge_options(section, where)]


def _judge_options(section: Mapping[str, Any], where: str) -> list[tuple[str, Options]]:
    if "judge" not in section:
        return []
    where = f"{where}.judge"
    return [(where, build_options(judges, section["judge"], where))]


def _read(path: Path) -> dict[str, Any]:
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
        raise AutointerpError(f"{path}: expected sections such as `run:`, found a {_noun(tree)}")
    return tree


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
    first = keys[-1] in ("kind", "tiers", *_STAGES)
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
        if last and keys[0] in _STAGES and isinstance(node, dict) and _begins_anew(node, key):
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
        tree.setdefault("scorers", [{"kind": "detection"}])
    if keys[0] == "explainer" and len(keys) > 1:
        tree.setdefault("explainer", {"kind": "pattern"})


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first complaint of pydantic, in one line of ours."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _fields_at(model, first["loc"][:-1])
        return f"unknown key {where!r}{_hint(str(first['loc'][-1]), known)}{_known(known)}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _fields_at(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The keys known at a path of the model; through mappings of sections too."""
    current: Any = model
    for part in path:
        if isinstance(current, type) and issubclass(current, BaseModel):
            current = current.model_fields[str(part)].annotation
        else:
            current = next((a for a in _arguments(current) if hasattr(a, "model_fields")), None)
    fields = getattr(current, "model_fields", None)
    return list(fields) if fields is not None else []


def _arguments(annotation: Any) -> tuple[Any, ...]:
    return getattr(annotation, "__args__", ())


def _hint(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def _known(known: Sequence[str]) -> str:
    return f" (known: {', '.join(known)})" if known else ""


def _noun(value: Any) -> str:
    return "list" if isinstance(value, list) else type(value).__name__
