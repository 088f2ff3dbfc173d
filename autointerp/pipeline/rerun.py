"""The control of an explainer: some of a run's latents explained and scored once more.

A rerun reads the run's examples, judges the same windows, and is independent of it otherwise. How
far the scores of the two agree tells what of them is the latents' own.
"""

from __future__ import annotations

from pathlib import Path

from autointerp.config import RunConfig, build_config
from autointerp.examples.store import ExampleStore
from autointerp.latents import AutointerpError, LatentId
from autointerp.pipeline import directory
from autointerp.pipeline.agreement import RERUN, agreement
from autointerp.pipeline.building import needs_embedder
from autointerp.pipeline.compare import Side
from autointerp.pipeline.random_coders import control_path
from autointerp.pipeline.repeats import in_order
from autointerp.pipeline.results import Results
from autointerp.pipeline.session import Session

KIND = "rerun"
LATENTS = 30
FEWEST = 2  # latents that scores can be correlated over


def derive(config: RunConfig, latents: int = LATENTS) -> RunConfig:
    """The rerun's configuration, beside the run: of so many latents, a seeded sample of those that
    were scored, to which a larger number only adds. Its examples are those of the run.

    Raises:
        AutointerpError: if the run has no examples, fewer than two scored latents, or explanations
            from elsewhere; if there are other examples in the rerun's place.
    """
    if latents < FEWEST:
        raise AutointerpError(f"--latents {latents} are too few to correlate; {FEWEST} or more")
    ExampleStore.open(config.run.path / directory.EXAMPLES)
    chosen = _chosen(config, latents)
    run = control_path(config, KIND)
    _share_examples(config.run.path, run)
    tree = config.model_dump(mode="json")
    tree["run"] |= {"name": run.name, "rerun": config.run.rerun + 1}
    coders = sorted({latent.coder for latent in chosen})
    tree["latents"] = {
        coder: sorted(latent.index for latent in chosen if latent.coder == coder)
        for coder in coders
    }
    return build_config(tree, f"the rerun of {config.run.path}")


def _chosen(config: RunConfig, most: int) -> list[LatentId]:
    run = config.run.path
    with Results.read(run / directory.RESULTS) as results:
        side = Side.of(results)
        scored = {latent for name in side.scorers() for latent in side.scores(name)}
    if side.explainer != config.explainer["kind"]:
        raise AutointerpError(
            f"the scores of {run} are of explanations by {side.explainer}, and its configuration"
            f" names {config.explainer['kind']}: only what that wrote can be written again"
        )
    if len(scored) < FEWEST:
        raise AutointerpError(f"{run} has {len(scored)} scored latents; a rerun needs {FEWEST}")
    return in_order(scored, most)


def _share_examples(run: Path, rerun: Path) -> None:
    link = rerun / directory.EXAMPLES
    if link.is_symlink():
        return
    if link.exists():
        raise AutointerpError(f"{rerun} has examples of its own; move it, its place is the rerun's")
    rerun.mkdir(parents=True, exist_ok=True)
    # Relative, so that the two can be moved together.
    link.symlink_to(Path("..", run.name, directory.EXAMPLES), target_is_directory=True)


def note_agreement(rerun: Session, run: Path) -> None:
    """Keep in the results of both how far the finished rerun agrees with the run.

    Raises:
        AutointerpError: if nothing was scored, or another process is at work in the run.
    """
    embed = rerun.embedder() if needs_embedder(rerun.config) else None
    found = agreement(run, rerun.path, embed)
    rerun.results.note(RERUN, found)
    with directory.writing(run), Results.open(run / directory.RESULTS) as results:
        results.note(RERUN, found)
