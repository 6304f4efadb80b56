"""`python -m wan run --server URL`: the same command, run by a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .errors import InputError, OutputError, UnavailableError, WanError
from .grid import combine
from .params import App
from .progress import Reporter

_CHUNK = 1 << 20
_WHOLE = 100
"""Steps of the bar; the server tells percent."""


class RemoteError(WanError):
    """The server refused the request, failed at it, or cannot be reached."""


@dataclass(frozen=True)
class RemoteResult:
    """What the server made."""

    path: Path
    task_id: str
    seed: int | None
    """That was used, drawn or given."""


def run_remote(
    app: App, inputs: Mapping[str, str], server: str, out: Path, reporter: Reporter
) -> RemoteResult:
    """Run an app on a server, follow it, and fetch its video.

    Args:
        app: whose parameters; checked by the server.
        inputs: values as text; files are paths here, or addresses.
        server: scheme, host, port and prefix, for example "http://127.0.0.1:8600/infsh".
        out: where the video goes.
        reporter: told percent, stage and notes. Cancelling here cancels there.
    Raises:
        RemoteError: with what the server said.
        InputError: a file is not there, or the address is none.
        UnavailableError: the SDK is not installed.
    """
    client = _client(server)
    with _explained(server):
        values = {name: _value(client, app, name, text) for name, text in inputs.items()}
        task = client.run({"app": f"infsh/{app.name}", "input": values}, wait=False)
        ended = _follow(client, task["id"], reporter)
        _download(_address(ended["output"][app.output]), out)
    return RemoteResult(out, task["id"], ended["input"].get("seed"))


@dataclass(frozen=True)
class RemoteItem:
    """What the server made of one combination."""

    path: Path
    """The video; not there if it failed."""
    values: Mapping[str, Any]
    """Of the listed parameters."""
    task_id: str
    seed: int | None
    error: str
    """Empty if it completed."""


def run_remote_grid(
    app: App,
    inputs: Mapping[str, str],
    axes: Mapping[str, Sequence[Any]],
    server: str,
    out: Path,
    reporter: Reporter,
) -> list[RemoteItem]:
    """Run an app on a server with all combinations of several values, and fetch the videos.

    Args: as `run_remote`, and
        axes: values by parameter.
        out: out-1.mp4, out-2.mp4 and so on are made of it.
    Raises: as `run_remote`, unless a task fails.
    """
    client = _client(server)
    with _explained(server):
        values = {name: _value(client, app, name, text) for name, text in inputs.items()}
        lists = {name: [_value(client, app, name, v) for v in axes[name]] for name in axes}
        body = {"app": f"infsh/{app.name}", "input": values, "grid": lists}
        started = client.grid(body, wait=False)
        state = _follow_grid(client, started["id"], reporter)
        items = []
        for item, chosen in zip(state["items"], combine(axes), strict=True):
            path, error = out_of(out, item["number"]), item["error"]
            if item["output"]:
                _download(_address(item["output"][app.output]), path)
            else:
                error = error or f"it was {item['status_text']}"
            shown = {n: chosen[n] if _is_file(app, n) else v for n, v in item["values"].items()}
            seed = client.get_task(item["task_id"]).data["input"].get("seed")
            items.append(RemoteItem(path, shown, item["task_id"], seed, error))
    return items


def out_of(out: Path, number: int) -> Path:
    """Where the video of a combination goes: out-1.mp4, out-2.mp4 and so on."""
    return out.with_name(f"{out.stem}-{number}{out.suffix}")


def _follow_grid(client: Any, grid_id: str, reporter: Reporter) -> dict[str, Any]:
    """The last state of a grid."""
    state: dict[str, Any] = {}
    try:
        reporter.start("run", _WHOLE)
        for state in client.stream_grid(grid_id):
            counts = state["counts"]
            ended = counts["completed"] + counts["failed"] + counts["cancelled"]
            reporter.status(f"{ended} of {len(state['items'])} ended")
            reporter.update(round(state["progress"]))
    except BaseException:
        client.cancel_grid(grid_id)
        raise
    return state


@contextmanager
def _explained(server: str) -> Iterator[None]:
    """What the SDK raises, as errors of this pack."""
    import requests

    from .client import APIError, RequirementsNotMetError

    try:
        yield
    except (APIError, RequirementsNotMetError) as error:
        raise RemoteError(
            what=f"{server} refuses the request.",
            why=getattr(error, "message", "") or str(error),
            fix="Change that and send it again.",
        ) from error
    except requests.RequestException as error:
        raise RemoteError(
            what=f"{server} does not answer ({type(error).__name__}).",
            why="The video is made there.",
            fix="Start `python -m wan serve` or ComfyUI, and give the address it says, with /infsh.",
        ) from error


def _client(server: str) -> Any:
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InputError(
            what=f"--server {server!r} is no address.",
            why="The request is sent there.",
            fix="Write for example --server http://127.0.0.1:8600/infsh",
        )
    try:
        from .client import inference
    except ImportError as error:
        what, _, fix = str(error).partition("\n")
        raise UnavailableError(what=what, why="--server speaks through it.", fix=fix) from error
    try:
        return inference(base_url=server)
    except ValueError as error:
        raise InputError(
            what="No API key is set.",
            why="A server answers only those who know its key.",
            fix="Set WAN_LOCAL_API_KEY to a key of the file that the server names when it starts.",
        ) from error


def _value(client: Any, app: App, name: str, text: str) -> Any:
    """What is sent for a parameter: a file is uploaded first."""
    if not _is_file(app, name) or text.startswith(("http://", "https://")):
        return text
    if not Path(text).is_file():
        raise InputError(
            what=f"{name}: there is no file {text!r}.",
            why="It would be uploaded.",
            fix="Give the path of a file, or an http address.",
        )
    return client.upload_file(text).uri


def _is_file(app: App, name: str) -> bool:
    return name in app.names and app[name].kind == "file"


def _follow(client: Any, task_id: str, reporter: Reporter) -> dict[str, Any]:
    """The last update of a task that completed."""
    seen, update = set(), {}
    try:
        reporter.start("run", _WHOLE)
        for update in client.stream_task(task_id):
            for line in update.get("logs") or ():
                if line["id"] not in seen:
                    seen.add(line["id"])
                    reporter.note(line["content"])
            reporter.status(_words(update))
            reporter.update(round(update.get("progress") or 0))
    except RuntimeError as error:
        raise RemoteError(
            what=f"Task {task_id} did not complete.",
            why=str(error),
            fix="Change that and try again.",
        ) from error
    except BaseException:
        client.cancel(task_id)
        raise
    return update


def _words(update: Mapping[str, Any]) -> str:
    waiting = update.get("queue_position")
    left = update.get("eta_seconds")
    words = [update.get("stage") or (f"number {waiting} in the queue" if waiting else "")]
    if left:
        words.append(f"about {left:.0f} s left")
    return ", ".join(filter(None, words))


def _address(output: Any) -> str:
    return output["uri"] if isinstance(output, Mapping) else output


def _download(address: str, out: Path) -> None:
    """Under another name until it is complete."""
    import requests

    part = out.with_name(f".{out.name}.part")
    try:
        with requests.get(address, stream=True, timeout=60) as answer:
            answer.raise_for_status()
            with part.open("wb") as file:
                for chunk in answer.iter_content(_CHUNK):
                    file.write(chunk)
        part.replace(out)
    except OSError as error:
        part.unlink(missing_ok=True)
        if isinstance(error, requests.RequestException):
            raise
        raise OutputError(
            what=f"'{out}' cannot be written ({error.strerror}).",
            why="The video goes there.",
            fix="Give --out a name in a folder that exists and can be written to.",
        ) from error
