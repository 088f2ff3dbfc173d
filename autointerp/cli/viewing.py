"""The command that shows a run in a browser."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autointerp.cli.common import DONE, existing

if TYPE_CHECKING:
    from autointerp.report.viewer.sides import Shown, Side

PORT, HOST = 8000, "127.0.0.1"
_EXTRA = ("starlette", "uvicorn")


def add_command(commands: Any) -> None:
    """The words of ``view``."""
    about = "a run in the browser: search, latents, live texts, two runs side by side"
    parser = commands.add_parser("view", help=about, description=about)
    parser.add_argument("directory", nargs="?", default="demo", metavar="RUN")
    parser.add_argument("other", nargs="?", metavar="RUN_B", help="another run of the same latents")
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}; 0: any free one")
    parser.add_argument("--host", default=HOST, help=f"default: {HOST}, this machine alone")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name by which others call this machine; repeatable",
    )
    parser.set_defaults(command=view)


def view(arguments: argparse.Namespace) -> int:
    """Index the run (or runs) if need be, and answer a browser until Ctrl-C."""
    from autointerp.latents import AutointerpError

    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        raise AutointerpError(
            f"the viewer needs {missing[0]}; pip install 'autointerp[view]', or"
            " pip install -e '.[view]' in a checkout"
        )
    from autointerp.report.viewer import guard, serving
    from autointerp.report.viewer.app import application

    runs = [existing(name) for name in (arguments.directory, arguments.other) if name]
    listening = serving.listen(arguments.host, arguments.port)
    with listening:
        shown = _shown(runs)
        hosts = guard.hosts_of(arguments.host, arguments.allow_host)
        alone = guard.is_loopback(arguments.host)
        _announce(serving.address(listening, arguments.host), alone)
        try:
            serving.serve(application(shown, hosts, addresses=not alone), listening)
        except KeyboardInterrupt:
            print("stopped")
        finally:
            shown.close()
    return DONE


def _announce(address: str, alone: bool) -> None:
    print(f"look at {address}", flush=True)
    if alone:
        print("on this machine alone; Ctrl-C ends it", flush=True)
    else:
        print("anyone who reaches this machine can read the run; Ctrl-C ends it", flush=True)


def _shown(runs: Sequence[Path]) -> Shown:
    from autointerp.pipeline.browsing import same_latents
    from autointerp.report.viewer.building import index_path
    from autointerp.report.viewer.pairs import Pairs
    from autointerp.report.viewer.sides import Shown

    indices = [index_path(run) for run in runs]
    sides = [_side(*x) for x in zip(runs, indices, ("", "/b"), strict=False)]
    if len(sides) == 1:
        return Shown(sides)
    first, second = ({s.name for s in side.index.scorers} for side in sides)
    scorer = next((s.name for s in sides[0].index.scorers if s.name in first & second), None)
    return Shown(sides, Pairs(indices[0], indices[1], scorer), same_latents(*runs))


def _side(run: Path, path: Path, root: str) -> Side:
    from autointerp.pipeline.browsing import LatentDocuments
    from autointerp.pipeline.live import LiveRun
    from autointerp.report.live import observer
    from autointerp.report.viewer.building import up_to_date
    from autointerp.report.viewer.index import Index
    from autointerp.report.viewer.sides import Side

    with observer() as observe:
        up_to_date(run, path, observe)
    return Side(root, run, Index(path), LatentDocuments(run), LiveRun(run))
