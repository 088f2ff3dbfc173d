"""Builds what a run works with from its configuration: subject, coders, explainer, scorers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any, Literal

from autointerp.config import RunConfig
from autointerp.examples.options import Attached, CorpusOptions, ExampleOptions
from autointerp.latents import AutointerpError
from autointerp.pipeline.directory import RESULTS
from autointerp.pipeline.embedding import check_there, load_embedder
from autointerp.sections import CASCADE, DEMO, CoderSection
from autointerp.subject.checkpoints import load_coder
from autointerp.subject.coders import SparseCoder
from autointerp.subject.embedder import Embedder
from autointerp.subject.loading import load_subject
from autointerp.subject.model import Subject

_HASHED = 2**25  # bytes at either end of a file: all of a small one, and fast for any
_PACKAGES = ("autointerp", "numpy", "scipy", "torch", "transformers", "tokenizers", "pydantic")


def coder_path(name: str, coder: CoderSection) -> str:
    """Where a coder's checkpoint is; ``demo`` is the embedded one of the coder's name.

    Raises:
        AutointerpError: if the demo has no coder of that name.
    """
    if coder.path != "demo":
        return coder.path
    path = DEMO / "coders" / name
    if not path.is_dir():
        known = ", ".join(sorted(p.name for p in path.parent.iterdir()))
        raise AutointerpError(f"subject.coders.{name}: the demo has no such coder (known: {known})")
    return str(path)


def build_subject(config: RunConfig) -> Subject:
    return load_subject(**config.subject.model_dump(exclude={"coders"}))


def build_coders(config: RunConfig) -> dict[str, SparseCoder]:
    """Read every coder's checkpoint, in float32 on the CPU.

    Raises:
        AutointerpError: naming the coder whose checkpoint cannot be used.
    """
    coders = {}
    for name, coder in config.subject.coders.items():
        path = coder_path(name, coder)
        with _named(f"subject.coders.{name}"):
            coders[name] = load_coder(path, revision=coder.revision)
    return coders


def needs_embedder(config: RunConfig) -> bool:
    return config.examples.semantic or "embedder" in config.needs("score")


def needs_effects(config: RunConfig) -> bool:
    """Whether a stage explains or steers what latents cause."""
    return bool({"steering", "effects"} & (config.needs("explain") | config.needs("score")))


def check_embedder(config: RunConfig) -> None:
    """Look for the embedder before the first work of a run that will need it; one that has begun
    may have all that it needs of it.

    Raises:
        AutointerpError: if there is no such model.
    """
    if needs_embedder(config) and not (config.run.path / RESULTS).exists():
        with _named("embedder"):
            check_there(config.embedder.model, config.embedder.revision)


def build_embedder(config: RunConfig) -> Embedder:
    """Raises AutointerpError if the extra is not installed, or there is no such model."""
    with _named("embedder"):
        return load_embedder(**config.embedder.model_dump())


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Say in a refusal which part of the configuration it is about."""
    try:
        yield
    except AutointerpError as error:
        raise AutointerpError(f"{where}: {error}") from error


def build_base_lm(config: RunConfig, name: str) -> Subject:
    """The local base language model of that name. Raises AutointerpError if there is none."""
    like = config.subject
    length = 2**20  # as many as the model takes
    return load_subject(name, dtype=like.dtype, device=like.device, context_length=length)


def embedder_identity(config: RunConfig) -> str:
    """What tells the embedder's vectors from another's: its name, revision and files."""
    path = Path(config.embedder.model)
    files = _hash(path) if path.exists() else ""
    return f"{config.embedder.model} {config.embedder.revision} {files}"


def attach(
    config: RunConfig, subject: Subject, coders: Mapping[str, SparseCoder]
) -> dict[str, Attached]:
    """Put every coder at its hook point: the one given, else the one claimed, else its name.

    Raises:
        AutointerpError: if there is no such hook point, or its width is not the coder's.
    """
    attached = {}
    for name, coder in coders.items():
        section = config.subject.coders[name]
        wanted = section.hook or coder.info.hook or name
        with _named(f"subject.coders.{name}"):
            hook = subject.hook_point(wanted)
            target = subject.hook_point(section.hook_out) if section.hook_out else None
        coder.check_width(subject.width(hook), str(hook))
        attached[name] = Attached(coder.to(subject.device), hook, target)
    return attached


def corpus_options(config: RunConfig) -> CorpusOptions:
    return CorpusOptions(**config.corpus.model_dump(exclude={"license"}))


def example_options(config: RunConfig) -> ExampleOptions:
    e = config.examples
    return ExampleOptions(
        window=e.window,
        background=e.background,
        splits=(e.splits.explain, e.splits.select, e.splits.test),
        explain_top=e.explain.top,
        explain_sampled=e.explain.sampled,
        select_sampled=e.select.sampled,
        test_sampled=e.test.sampled,
    )


def settings(config: RunConfig, hashes: Mapping[str, str], *, explain: bool) -> dict[str, Any]:
    """What the rows of a run's results depend on, as dotted fields.

    How many tokens go through at once, on which device and how many latents are in flight is
    left out, and so is which latents are asked for.
    """
    tree = config.model_dump(mode="json")
    stages: list[Literal["explain", "score"]] = ["explain", "score"] if explain else ["score"]
    subject = {k: v for k, v in tree["subject"].items() if k not in _NOT_SETTINGS}
    held: dict[str, Any] = {
        "run": {"seed": tree["run"]["seed"]},
        "rerun": tree["run"]["rerun"],
        "subject": subject,
        "corpus": {k: v for k, v in tree["corpus"].items() if k != "license"},
        "examples": tree["examples"],
        "checkpoints": dict(hashes),
        "scorers": {s["kind"]: _but_kind(s) for s in tree["scorers"]},
    }
    asked = [o for stage in stages for o in config.llm_names(stage)]
    held["llms"] = {name: {k: tree["llms"][name][k] for k in _ANSWERS} for name in asked}
    if needs_embedder(config):
        held["embedder"] = embedder_identity(config)
    if explain:
        held["explainer"] = _explainers(config)
    if needs_effects(config):
        held["effects"] = {config.effects["kind"]: _but_kind(config.effects)}
    return dict(_flat(held))


def _explainers(config: RunConfig) -> dict[str, Any]:
    """By kind. A cascade's tiers stand beside it, as their explanations do in the results."""
    held = {tier["kind"]: _but_kind(tier) for tier in config.tiers}
    if config.explainer["kind"] == CASCADE:
        held[CASCADE] = {**_but_kind(config.explainer), "tiers": list(held)}
    return held


_ANSWERS = ("model", "temperature", "max_tokens", "extra_body")  # what shapes a model's answers
_NOT_SETTINGS = frozenset({"device", "device_map", "batch_tokens"})


def _but_kind(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key != "kind"}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in tree.items():
        where = f"{prefix}{key}"
        pairs += _flat(value, f"{where}.") if isinstance(value, dict) else [(where, value)]
    return pairs


def checkpoint_hashes(config: RunConfig) -> dict[str, str]:
    """A hash of the files of the model and every coder; a hub id's are pinned by revision."""
    model = str(DEMO) if config.subject.model == "demo" else config.subject.model
    paths = {"model": model}
    paths |= {name: coder_path(name, coder) for name, coder in config.subject.coders.items()}
    return {name: _hash(Path(path)) for name, path in paths.items() if Path(path).exists()}


def _hash(path: Path) -> str:
    """Of the names, sizes and contents of the files; of large files, both ends of the content."""
    digest = hashlib.blake2b(digest_size=16)
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file())
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name} {size}".encode())
        with file.open("rb") as content:
            digest.update(content.read(_HASHED))
            content.seek(max(_HASHED, size - _HASHED))
            digest.update(content.read(_HASHED))
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that results depend on."""
    found = {"python": python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
