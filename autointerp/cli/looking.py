"""The commands that look: at a run, at one latent of it, at texts."""

from __future__ import annotations

import argparse

from autointerp.cli.common import DONE, existing, no_run, place, print_json, read_config, refuse


def status(arguments: argparse.Namespace) -> int:
    from autointerp.pipeline.shard_status import added_up, shard_lines
    from autointerp.pipeline.status import age, find_run, is_at_work
    from autointerp.report.progress import headline, lines

    path = find_run(arguments.directory)
    document = added_up(path) if path is not None else None
    if path is None or document is None:
        return refuse(no_run(arguments.directory))
    if "shards" not in document:
        document["running"] = is_at_work(path, document)
        document["age"] = round(age(path, document), 1)
    if arguments.json:
        print_json(document)
    else:
        head = shard_lines(document) if "shards" in document else headline(document)
        print(*head, *lines(document), sep="\n")
    return DONE


def show(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from autointerp.latents import LatentId
    from autointerp.pipeline import directory
    from autointerp.pipeline.published import examples_of
    from autointerp.pipeline.results import Results
    from autointerp.pipeline.shown import latent_document
    from autointerp.report.latent import print_latent

    path = existing(arguments.directory)
    latent = LatentId.parse(arguments.latent)
    with Results.read(path / directory.RESULTS) as results:
        document = latent_document(results, examples_of(path), latent)
    if arguments.json:
        print_json(document)
    else:
        print_latent(Console(), document)
    return DONE


def prompts(arguments: argparse.Namespace) -> int:
    from autointerp.config import load_config
    from autointerp.latents import LatentId
    from autointerp.pipeline import directory
    from autointerp.pipeline.rendered import render_run
    from autointerp.report.prompts import as_document, print_prompts

    run = existing(arguments.directory)
    config = load_config(run / directory.CONFIG, [*arguments.overrides, *place(run)])
    rendered = render_run(config, LatentId.parse(arguments.latent))
    asked = {"explainer": rendered.explainer, **rendered.scorers}
    if arguments.json:
        print_json(as_document(asked))
    else:
        print_prompts(asked)
    return DONE


def probe(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from autointerp.latents import AutointerpError, LatentId
    from autointerp.pipeline.probe import measure, read_texts
    from autointerp.report.latent import print_probe

    texts = [*arguments.text, *(read_texts(arguments.texts) if arguments.texts else [])]
    if not texts:
        raise AutointerpError("nothing to probe; give --text TEXT or --texts FILE")
    latents = [LatentId.parse(text) for text in arguments.latent]
    document = measure(read_config(arguments), latents, texts)
    if arguments.json:
        print_json(document)
    else:
        print_probe(Console(), document)
    return DONE
