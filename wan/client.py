"""The hosted apps' own Python client, pointed at this machine; their snippets run as printed.

`from wan.client import inference` takes the place of `from inferencesh import inference`. It is the
public SDK (`pip install "inferencesh>=0.36"`), with four differences: the address comes from
`WAN_API_BASE_URL`, updates of a stream hold everything the server said (`progress`, `stage`,
`eta_seconds`, `queue_position`, `preview`), an uploaded file has attributes (`file.uri`), and a
stream outlives lost connections for ten minutes and has no time limit of its own. And there is
`client.grid`, for several values at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

try:
    import inferencesh
    from inferencesh.client import is_terminal_status, parse_status
    from inferencesh.models.errors import APIError, RequirementsNotMetError
except ImportError as error:
    raise ImportError(
        "wan.client builds on the public SDK, which is not installed or too old.\n"
        'Install it: pip install "inferencesh[async]>=0.36"'
    ) from error

DEFAULT_BASE_URL = "http://127.0.0.1:8188/infsh"
"""ComfyUI on this machine; `python -m wan serve` says its own address."""
_RECONNECTS = 600
_HEADERS = {"Accept": "application/x-ndjson", "Accept-Encoding": "identity"}

__all__ = ["APIError", "RequirementsNotMetError", "async_inference", "inference"]


def inference(*, api_key: str | None = None, base_url: str | None = None) -> Inference:
    """A client that waits.

    Args:
        api_key: None: `INFERENCE_API_KEY`, then `WAN_LOCAL_API_KEY`.
        base_url: scheme, host and prefix; None: `WAN_API_BASE_URL`, then a local ComfyUI.
    Raises:
        ValueError: no key anywhere.
    """
    return Inference(api_key=_key(api_key), base_url=_address(base_url))


def async_inference(*, api_key: str | None = None, base_url: str | None = None) -> AsyncInference:
    """A client for asyncio. Args, Raises: as `inference`."""
    return AsyncInference(api_key=_key(api_key), base_url=_address(base_url))


def _key(given: str | None) -> str | None:
    names = ("INFERENCE_API_KEY", "WAN_LOCAL_API_KEY")
    return given or next((os.environ[name] for name in names if os.environ.get(name)), None)


def _address(given: str | None) -> str:
    return (given or os.environ.get("WAN_API_BASE_URL") or DEFAULT_BASE_URL).rstrip("/")


class AttributeDict(dict):
    """A dict whose items are attributes too, as the pages' snippets spell them."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Inference(inferencesh.Inference):
    """The SDK's client with the differences that the module names."""

    def run(self, params: dict[str, Any], **options: Any) -> Any:
        """Run an app. Args, Returns, Raises: as the SDK's `run`."""
        options.setdefault("max_reconnects", _RECONNECTS)
        return super().run(params, **options)

    def stream_task(self, task_id: str, **options: Any) -> Any:
        """Follow a task. Args, Returns: as the SDK's `stream_task`."""
        options.setdefault("max_reconnects", _RECONNECTS)
        return super().stream_task(task_id, **options)

    def grid(
        self,
        params: dict[str, Any],
        *,
        wait: bool = True,
        on_update: Callable[[dict[str, Any]], None] = lambda state: None,
    ) -> AttributeDict:
        """Run an app with all combinations of several values.

        Args:
            params: as of `run`, and `grid`: lists of values by parameter.
            wait: whether to follow it until all tasks have ended.
            on_update: called with each state while it is followed.
        Returns:
            The grid: `id`, `items` with `values`, `status_text`, `output` and `error` each, and
            more. A failed task raises nothing.
        Raises:
            APIError, RequirementsNotMetError: the request is refused; nothing runs.
        """
        files = {name: self._process_input_data(params.get(name)) for name in ("input", "grid")}
        state = self._request("post", "/grids", data={**params, **files}).data
        if wait:
            for update in self.stream_grid(state["id"]):
                on_update(update)
                state = update
        return AttributeDict(state)

    def cancel_grid(self, grid_id: str) -> None:
        """Cancel the tasks of a grid that have not ended. Raises: APIError, all have."""
        self._request("post", f"/grids/{grid_id}/cancel")

    def stream_grid(self, grid_id: str) -> Iterator[dict[str, Any]]:
        """States of a grid until all of its tasks have ended; outlives lost connections.

        Raises:
            APIError: it is not there.
        """
        import requests

        for _ in range(_RECONNECTS):
            try:
                for line in self._lines(f"/grids/{grid_id}/stream"):
                    state = json.loads(line)
                    yield state
                    if _has_ended(state):
                        return
            except (requests.RequestException, ValueError):  # cut off
                pass
            time.sleep(1)

    def upload_file(self, data: str | bytes, options: Any = None) -> AttributeDict:
        """Upload a file. Args, Raises: as the SDK's `upload_file`.

        Returns:
            The file's record; its `uri` goes wherever a file is wanted.
        """
        return AttributeDict(super().upload_file(data, options))

    def _stream_updates(self, task_id: str, task: dict[str, Any]) -> Iterator[Any]:
        for line in self._lines(f"/tasks/{task_id}/stream"):
            yield from _updates(line)

    def _lines(self, path: str) -> Iterator[bytes]:
        """The lines of a stream as they arrive. Raises: APIError, the server refuses."""
        with self._request("get", path, headers=_HEADERS, stream=True, timeout=60) as answer:
            if not answer.ok:
                raise APIError(answer.status_code, answer.reason, answer.text)
            yield from answer.iter_lines(chunk_size=None)


class AsyncInference(inferencesh.AsyncInference):
    """The SDK's asyncio client with the differences that the module names."""

    async def run(self, params: dict[str, Any], **options: Any) -> Any:
        """Run an app. Args, Returns, Raises: as the SDK's `run`."""
        options.setdefault("max_reconnects", _RECONNECTS)
        return await super().run(params, **options)

    def stream_task(self, task_id: str, **options: Any) -> Any:
        """Follow a task. Args, Returns: as the SDK's `stream_task`."""
        options.setdefault("max_reconnects", _RECONNECTS)
        return super().stream_task(task_id, **options)

    async def upload_file(self, data: str | bytes, options: Any = None) -> AttributeDict:
        """Upload a file. Args, Returns, Raises: as `Inference.upload_file`."""
        return AttributeDict(await super().upload_file(data, options))

    async def grid(
        self,
        params: dict[str, Any],
        *,
        wait: bool = True,
        on_update: Callable[[dict[str, Any]], None] = lambda state: None,
    ) -> AttributeDict:
        """Run an app with all combinations of several values. Args, Returns, Raises: as
        `Inference.grid`."""
        names = ("input", "grid")
        files = {name: await self._process_input_data(params.get(name)) for name in names}
        state = (await self._request("post", "/grids", data={**params, **files})).data
        if wait:
            async for update in self.stream_grid(state["id"]):
                on_update(update)
                state = update
        return AttributeDict(state)

    async def cancel_grid(self, grid_id: str) -> None:
        """Cancel the tasks of a grid that have not ended. Raises: APIError, all have."""
        await self._request("post", f"/grids/{grid_id}/cancel")

    async def stream_grid(self, grid_id: str) -> AsyncIterator[dict[str, Any]]:
        """States of a grid until all of its tasks have ended; outlives lost connections.

        Raises:
            APIError: it is not there.
        """
        import aiohttp

        for _ in range(_RECONNECTS):
            try:
                async with aclosing(self._lines(f"/grids/{grid_id}/stream")) as lines:
                    async for line in lines:
                        state = json.loads(line)
                        yield state
                        if _has_ended(state):
                            return
            except (aiohttp.ClientError, asyncio.TimeoutError, ValueError):  # cut off
                pass
            await asyncio.sleep(1)

    async def _stream_updates(self, task_id: str, task: dict[str, Any]) -> AsyncIterator[Any]:
        async with aclosing(self._lines(f"/tasks/{task_id}/stream")) as lines:
            async for line in lines:
                for update in _updates(line):
                    yield update

    async def _lines(self, path: str) -> AsyncGenerator[bytes, None]:
        """The lines of a stream as they arrive. Raises: APIError, the server refuses."""
        import aiohttp

        # No limit for the whole: a job may take hours. Something comes every few seconds.
        limits = aiohttp.ClientTimeout(total=None, sock_connect=60, sock_read=60)
        headers = {**self._headers(), **_HEADERS}
        async with (
            aiohttp.ClientSession(timeout=limits) as session,
            session.get(self._base_url + path, headers=headers) as answer,
        ):
            if answer.status >= 400:
                raise APIError(answer.status, answer.reason, await answer.text())
            async for line in answer.content:
                yield line


def _has_ended(grid: dict[str, Any]) -> bool:
    return not (grid["counts"]["waiting"] or grid["counts"]["running"])


def _updates(line: bytes) -> Iterator[dict[str, Any]]:
    """What one line of a stream says; a failed or cancelled task raises as the SDK does."""
    try:
        event = json.loads(line)
    except ValueError:  # cut off where the connection broke
        return
    if "status" not in event:  # a heartbeat
        return
    status = parse_status(event["status"])
    if is_terminal_status(status) and status != inferencesh.TaskStatus.COMPLETED:
        raise RuntimeError(event.get("error") or f"task {status.name.lower()}")
    yield event
