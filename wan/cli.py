"""The command line: run an app, make the tiny models."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import miniatures
from .errors import Cancelled, InputError, WanError
from .params import APPS, App, Param, validate
from .residency import Offload

if TYPE_CHECKING:
    from .app import RunResult

BAD_INPUT = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit status: 0 done, 2 the input cannot be used (one message on stderr), 130
        interrupted.
    """
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except WanError as error:
        print(f"\n{error}", file=sys.stderr)
        return BAD_INPUT
    except (KeyboardInterrupt, Cancelled):
        print("\nStopped. Nothing was written.", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m wan",
        description="Wan image to video and character animation on your own weights, without "
        "ComfyUI.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run an app; 'run APP --help' lists its parameters",
        description="Run an app with parameters given as --input NAME=VALUE.",
    )
    apps = run.add_subparsers(required=True, metavar="APP")
    for app in APPS.values():
        _add_app(apps, app)
    tiny = commands.add_parser(
        "tiny",
        help="make the tiny random-weight models",
        description="Make miniatures of the real models with random weights: they run the whole "
        "path on a CPU in seconds. Their pictures are noise by nature.",
    )
    tiny.add_argument("folder", type=Path, metavar="DIR", help="made if it does not exist")
    tiny.set_defaults(command=_make_tiny)
    _add_models(commands)
    _add_serve(commands)
    _add_rank(commands)
    return parser


def _add_models(commands: argparse._SubParsersAction) -> None:
    from .inventory.command import add_models

    add_models(commands)


def _add_serve(commands: argparse._SubParsersAction) -> None:
    try:
        from .serve import add_serve
    except ImportError:  # aiohttp is not installed, and nobody but these commands needs it
        return
    add_serve(commands)


def _add_rank(commands: argparse._SubParsersAction) -> None:
    # No help: rank 0 alone starts it.
    rank = commands.add_parser("rank")
    for name in ("--rank", "--ranks", "--port"):
        rank.add_argument(name, type=int, required=True)
    rank.add_argument("--device", required=True)
    rank.set_defaults(command=_be_rank)


def _be_rank(options: argparse.Namespace) -> int:
    from .rank import run_rank

    return run_rank(options.rank, options.ranks, options.port, options.device)


def _add_app(apps: argparse._SubParsersAction, app: App) -> None:
    parser = apps.add_parser(
        app.name,
        help=app.summary,
        description=app.summary,
        epilog=describe_parameters(app) + _describe_miniature(app),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter; repeat for each one",
    )
    parser.add_argument(
        "--models",
        default=miniatures.DEFAULT,
        metavar=miniatures.CHOICES,
        help="a folder with weights; mini (default): the trained miniature that comes with the "
        "pack; tiny: random weights, for tests",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("wan.mp4"),
        metavar="FILE",
        help="the video to write: .mp4 (default wan.mp4), .webm, or .mkv without loss",
    )
    parser.add_argument(
        "--no-metadata",
        dest="metadata",
        action="store_false",
        help="leave parameters and seed out of the file",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps, xpu")
    parser.add_argument(
        "--offload",
        choices=[choice.value for choice in Offload],
        help="auto (default): models stay on the device while there is room, and a transformer "
        "that does not fit visits it block by block; off: everything stays; blocks: always block "
        "by block, for the least memory",
    )
    _add_ranks(parser)
    parser.add_argument(
        "--fp8",
        action="store_true",
        help="the transformer's linear layers multiply in float8 where the GPU can: faster, and a "
        "little less exact",
    )
    parser.add_argument(
        "--server",
        metavar="URL",
        help="let a server run it, for example http://127.0.0.1:8600/infsh; --models, --device and "
        "--ranks are then the server's matter",
    )
    parser.set_defaults(command=_run, app=app)


def _add_ranks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ranks",
        type=int,
        default=1,
        metavar="N",
        help="let N processes compute one video together, each on a GPU of its own (default 1)",
    )


def describe_parameters(app: App) -> str:
    """Every parameter of an app with default, range and meaning, as plain text."""
    lines = ["parameters:"]
    for param in app.params:
        lines.append(f"  {param.name} ({_facts(param)})")
        lines.append(f"      {param.description}")
    return "\n".join(lines)


def _describe_miniature(app: App) -> str:
    small = miniatures.adapted(miniatures.MINI, app)
    changes = [
        f"  {own.name}: default {own.default}" + (f"; {own.range_text}" if own.range_text else "")
        for own, usual in zip(small.params, app.params, strict=True)
        if (own.default, own.minimum) != (usual.default, usual.minimum)
    ]
    return "\n".join(["\nwith --models mini:", *changes])


def _facts(param: Param) -> str:
    facts = [param.kind]
    if param.required:
        facts.append("required")
    elif param.default is not None:
        facts.append('default ""' if param.default == "" else f"default {param.default}")
    else:
        facts.append("optional")
    if param.range_text:
        facts.append(param.range_text)
    if not param.works:
        facts.append("NOT YET SUPPORTED")
    return "; ".join(facts)


def read_inputs(pairs: Sequence[str]) -> dict[str, str]:
    """Split NAME=VALUE pairs.

    Raises:
        InputError: a pair without "=" or a name given twice.
    """
    values: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name.strip() or name.strip() in values:
            raise InputError(
                what=f"--input {pair!r} cannot be used.",
                why="Each --input is one NAME=VALUE, and each name is given once.",
                fix='Write for example: --input prompt="a cat turns its head"',
            )
        values[name.strip()] = value
    return values


def _run(options: argparse.Namespace) -> int:
    if options.server:
        return _run_remotely(options)
    values = validate(miniatures.adapted(options.models, options.app), read_inputs(options.input))
    started = time.monotonic()
    result = _compute(options, values)
    print(
        f"{result.path}\n{result.width}x{result.height}, {result.num_frames} frames at "
        f"{result.fps:g} fps ({result.seconds:.2f} s), seed {result.seed}, "
        f"made in {time.monotonic() - started:.1f} s"
    )
    if result.notice:
        is_random = options.models == miniatures.TINY
        print(result.notice + (" Its weights are random: noise by nature." if is_random else ""))
    return 0


def _compute(options: argparse.Namespace, values: dict[str, Any]) -> RunResult:
    from .app import RUNNERS
    from .terminal import TerminalReporter, offload_of, open_device, open_models, surroundings

    offload = offload_of(values, options.offload)
    with closing(open_device(options.device, offload, options.ranks)) as placement:
        model = open_models(options.models, placement, options.app.name)
        around = surroundings(options.models, model, options.out, options.metadata, options.fp8)
        with TerminalReporter() as reporter:
            return RUNNERS[options.app.name](values, model, options.out, reporter, around)


def _run_remotely(options: argparse.Namespace) -> int:
    from .remote import run_remote
    from .terminal import TerminalReporter

    inputs = read_inputs(options.input)
    with TerminalReporter() as reporter:
        result = run_remote(options.app, inputs, options.server, options.out, reporter)
    print(f"{result.path}\nseed {result.seed}, task {result.task_id}")
    return 0


def _make_tiny(options: argparse.Namespace) -> int:
    from .tiny import ensure_tiny

    print(f"{ensure_tiny(options.folder)}\nRandom weights: what they make is noise by nature.")
    return 0
