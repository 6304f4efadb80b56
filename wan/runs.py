"""`python -m wan run --grid NAME=VALUES`: all combinations, here or by a server."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from . import miniatures
from .engine import Engine
from .errors import Cancelled, InputError, Problem, ValidationError, WanError
from .grid import combine, describe, draw_seeds, repeats
from .media.values import read_values
from .params import App, validate
from .remote import out_of, run_remote_grid
from .terminal import TerminalReporter, open_models, surroundings

MOST = 64
"""Combinations of one command, as of one request to a server."""
FAILED = 2
INTERRUPTED = 130


def read_axes(app: App, pairs: Sequence[str], inputs: Mapping[str, str]) -> dict[str, list[Any]]:
    """Lists of values by parameter, from NAME=VALUES.

    Args:
        app: whose parameters; texts and files are taken as they are, without a range in them.
        pairs: of the command line.
        inputs: what else is given.
    Raises:
        InputError: a pair that is none, a name that is given twice, no or too many values.
    """
    axes: dict[str, list[Any]] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        name = name.strip()
        if not separator or not name or name in axes or name in inputs:
            raise InputError(
                what=f"--grid {pair!r} cannot be used.",
                why="Each --grid is one NAME=VALUES, and each name is given once, there or with "
                "--input.",
                fix="Write for example: --grid seed=1,2,3",
            )
        axes[name] = _values(app, name, text)
        if repeats(name, axes[name]):
            raise InputError(
                what=f"--grid {pair!r} lists a value twice.",
                why="Both videos would be the same.",
                fix="Leave one out.",
            )
    count = len(combine(axes))
    if count > MOST:
        raise InputError(
            what=f"The grid has {count} combinations.",
            why=f"One command runs {MOST} at most.",
            fix="List fewer values.",
        )
    return axes


def complete(
    app: App, inputs: Mapping[str, str], axes: Mapping[str, Sequence[Any]]
) -> list[dict[str, Any]]:
    """Checked values of all combinations, seeds drawn. Raises: ValidationError, for all of them."""
    from .seeds import MAX_DRAWN_SEED

    found, problems = [], dict[Problem, None]()
    for chosen in combine(axes):
        try:
            found.append(validate(app, {**inputs, **chosen}))
        except ValidationError as error:
            problems.update(dict.fromkeys(error.problems))
    if problems:
        raise ValidationError(app.name, tuple(problems))
    places = combine({name: range(len(values)) for name, values in axes.items()})
    draw_seeds(found, places, MAX_DRAWN_SEED)
    return found


def run_grid(options: argparse.Namespace, inputs: Mapping[str, str]) -> int:
    """Run all combinations one after the other, with one set of models.

    Returns:
        The exit status: 2 if one failed.
    """
    from .app import RUNNERS

    app = miniatures.adapted(options.models, options.app)
    axes = read_axes(app, options.grid, inputs)
    found = complete(app, inputs, axes)
    engine = Engine.of(options)
    with closing(engine.open_placement(found[0])) as placement:
        model = open_models(engine.models, placement, app.name)
        failed = done = 0
        try:
            for number, values in enumerate(found, 1):
                placement.offload = engine.offload_of(values)
                out = out_of(options.out, number)
                around = surroundings(engine.models, model, out, options.metadata, engine.fp8)
                chosen = describe({name: values[name] for name in axes})
                started = time.monotonic()
                try:
                    with TerminalReporter() as reporter:
                        reporter.note(f"{number} of {len(found)}: {chosen}")
                        result = RUNNERS[app.name](values, model, out, reporter, around)
                except WanError as error:
                    print(f"{chosen}: {error}", file=sys.stderr)
                    failed += 1
                    continue
                done += 1
                seconds = time.monotonic() - started
                print(f"{result.path}: {chosen}; seed {result.seed}, made in {seconds:.1f} s")
        except (KeyboardInterrupt, Cancelled):
            print(f"\nStopped. {done} of {len(found)} videos were written.", file=sys.stderr)
            return INTERRUPTED
    if done and result.notice:
        print(result.notice)
    return FAILED if failed else 0


def run_grid_remotely(options: argparse.Namespace, inputs: Mapping[str, str]) -> int:
    """Have a server run all combinations. Returns: as `run_grid`."""
    axes = read_axes(options.app, options.grid, inputs)
    with TerminalReporter() as reporter:
        items = run_remote_grid(options.app, inputs, axes, options.server, options.out, reporter)
    for item in items:
        chosen = describe(item.values)
        if item.error:
            print(f"{chosen}: {item.error}", file=sys.stderr)
        else:
            print(f"{item.path}: {chosen}; seed {item.seed}, task {item.task_id}")
    return FAILED if any(item.error for item in items) else 0


def _values(app: App, name: str, text: str) -> list[Any]:
    """As the parameter is: numbers and switches may be ranges, texts stay what they are."""
    kind = app[name].kind if name in app.names else "string"
    if kind in ("integer", "number", "boolean"):
        return read_values(text)
    parts = text.splitlines() if "\n" in text.strip() else text.split(",")
    values = [part.strip() for part in parts if part.strip()]
    if not values:
        raise InputError(
            what=f"--grid {name} has no values.",
            why="A video is made for each.",
            fix=f"Write for example: --grid {name}=one,another; or one value a line.",
        )
    return values
