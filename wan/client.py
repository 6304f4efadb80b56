"""The hosted apps' own Python client, pointed at this machine; their snippets run as printed.

`from wan.client import inference` takes the place of `from inferencesh import inference`. It is the
public SDK (`pip install "inferencesh>=0.36"`), with four differences: the address comes from
`WAN_API_BASE_URL`, updates of a stream hold everything the server said (`progress`, `stage`,
`eta_seconds`, `queue_position`, `preview`), an uploaded file has attributes (`file.uri`), and a
stream outlives lost connections for ten minutes and has no time limit of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
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

    def upload_file(self, data: str | bytes, options: Any = None) -> AttributeDict:
        """Upload a file. Args, Raises: as the SDK's `upload_file`.

        Returns:
            The file's record; its `uri` goes wherever a file is wanted.
        """
        return AttributeDict(super().upload_file(data, options))

    def _stream_updates(self, task_id: str, task: dict[str, Any]) -> Iterator[Any]:
        path = f"/tasks/{task_id}/stream"
        answer = self._request("get", path, headers=_HEADERS, stream=True, timeout=60)
        with answer:
            if not answer.ok:
                raise APIError(answer.status_code, answer.reason, answer.text)
            for line in answer.iter_lines(chunk_size=None):  # as they arrive
                yield from _updates(line)


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

    async def _stream_updates(self, task_id: str, task: dict[str, Any]) -> AsyncIterator[Any]:
        import aiohttp

        # No limit for the whole: a job may take hours. Something comes every few seconds.
        limits = aiohttp.ClientTimeout(total=None, sock_connect=60, sock_read=60)
        address = f"{self._base_url}/tasks/{task_id}/stream"
        headers = {**self._headers(), **_HEADERS}
        async with (
            aiohttp.ClientSession(timeout=limits) as session,
            session.get(address, headers=headers) as answer,
        ):
            if answer.status >= 400:
                raise APIError(answer.status, answer.reason, await answer.text())
            async for line in answer.content:
                for update in _updates(line):
                    yield update


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
