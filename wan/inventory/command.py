"""`python -m wan models`: what is there, what is missing, and fetching it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError, WanError
from ..load.catalog import NEEDS, CatalogFile, all_files
from ..load.download import ask_hub, download, find_in_catalog, sha256_of
from ..progress import Reporter
from .presence import Presence, check_app, models_folder

MODELS_FOLDER = "WAN_LOCAL_MODELS"
"""Environment variable that names the models folder where none is given."""
_USUAL = (Path("models"), Path("../../models"), Path.home() / "ComfyUI" / "models")
_INCOMPLETE = 1


def add_models(commands: argparse._SubParsersAction) -> None:
    """Make the command known."""
    models = commands.add_parser(
        "models",
        help="which weights are there, which are missing, and fetch them",
        description="Lists for each app what is there, missing, damaged or of the wrong kind. "
        "Nothing is fetched unless --download asks for it.",
    )
    models.add_argument(
        "--models",
        type=Path,
        metavar="DIR",
        help="a ComfyUI or its models folder (default: models, the ComfyUI around this pack, "
        f"~/ComfyUI/models, or what {MODELS_FOLDER} names)",
    )
    models.add_argument("--app", choices=list(NEEDS), help="only this one")
    models.add_argument(
        "--check",
        action="store_true",
        help="compare checksums with those that Hugging Face names; reads whole files",
    )
    models.add_argument(
        "--download",
        metavar="APP|NAME",
        help="fetch all that an app needs and lacks, or one file of the catalog",
    )
    models.set_defaults(command=run_models)


def run_models(options: argparse.Namespace) -> int:
    """The command.

    Returns:
        0 if everything needed is there, 1 if not.
    Raises:
        InputError, WanError: a folder or name that does not exist; a download that failed.
    """
    from ..terminal import TerminalReporter

    models = _folder(options.models)
    with TerminalReporter() as reporter:
        if options.download:
            fetch(options.download, models, reporter)
        is_complete = True
        for app in [options.app] if options.app else list(NEEDS):
            found = check_app(app, models)
            print("\n".join(describe(app, found, models)))
            is_complete &= not any(presence.is_missing for presence in found)
            if options.check:
                is_complete &= _check_sums(found, models, reporter)
    return 0 if is_complete else _INCOMPLETE


def fetch(name: str, models: Path, reporter: Reporter, endpoint: str | None = None) -> list[Path]:
    """Download what an app lacks, or one file.

    Args:
        name: of an app or of a file in the catalog.
        models: a ComfyUI models folder.
        reporter: follows, and may cancel.
        endpoint: see `ask_hub`.
    """
    if name in NEEDS:
        lacking = [p for p in check_app(name, models) if p.is_missing]
        files = [file for presence in lacking for file in presence.files()]
    else:
        files = [find_in_catalog(name, list(all_files()))]
    reporter.note(_announce(files) if files else f"{name}: everything it needs is there.")
    return [download(file, models / file.folder, reporter, endpoint) for file in files]


def describe(app: str, found: list[Presence], models: Path) -> Iterator[str]:
    """How it stands with an app, as lines for the user."""
    yield f"{app} in {models}"
    for presence in found:
        need = presence.need
        state = "ok" if presence.found else "MISSING" if need.is_needed else "not there"
        yield f"  {need.part:<14} {state:<10} {_what(presence, models)}"
        yield from (f"  {'':<14} {'':<10} {problem}" for problem in presence.problems)
    if any(presence.is_missing for presence in found):
        yield f"  To fetch what is missing: python -m wan models --models {models} --download {app}"


def _what(presence: Presence, models: Path) -> str:
    if presence.found:
        path = presence.found
        name = path.relative_to(models) if path.is_relative_to(models) else path
        return f"{name}{f' ({presence.about})' if presence.about else ''}"
    joint = " and " if presence.need.is_set else " or "
    names = joint.join(_file(file) for file in presence.need.files)
    return f"{presence.need.purpose}: {names}"


def _file(file: CatalogFile) -> str:
    size = f", {file.gigabytes:g} GB" if file.gigabytes else ""
    note = f", {file.note}" if file.note else ""
    return f"{file.folder}/{file.name} ({file.repository}, {file.licence}{size}{note})"


def _announce(files: list[CatalogFile]) -> str:
    known = sum(file.gigabytes or 0 for file in files)
    more = " and more" if any(file.gigabytes is None for file in files) else ""
    return f"{len(files)} files, {known:.1f} GB{more}: {', '.join(file.name for file in files)}"


def _check_sums(found: list[Presence], models: Path, reporter: Reporter) -> bool:
    is_right = True
    known = {models / file.folder / file.name: file for file in all_files()}
    for presence in found:
        file = known.get(presence.found) if presence.found else None
        if presence.found is None or file is None:
            continue
        try:
            expected = ask_hub(file).sha256
        except WanError as error:
            print(f"  {file.name}: its checksum is not known ({error.what})")
            continue
        reporter.note(f"reading {file.name}")
        if expected and sha256_of(presence.found) != expected:
            is_right = False
            print(f"  {file.name}: WRONG, its checksum is not that of {file.repository}")
        else:
            print(f"  {file.name}: {'its checksum is right' if expected else 'no checksum known'}")
    return is_right


def _folder(given: Path | None) -> Path:
    named = given or (Path(os.environ[MODELS_FOLDER]) if os.environ.get(MODELS_FOLDER) else None)
    if named is None:
        named = next((path for path in _USUAL if path.is_dir()), None)
    if named is None or not named.is_dir():
        raise InputError(
            what=f"{'No models folder was found' if named is None else f'{named} is not there'}.",
            why="Weights are looked for, and put, in a ComfyUI models folder.",
            fix="Give it: --models DIR. An empty folder will do.",
        )
    return models_folder(named.resolve())
