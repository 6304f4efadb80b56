"""Tells receivers that a task has ended: signed, repeated until it arrives, over restarts."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

import aiohttp

from .guard import Guard
from .keys import signing_bytes
from .problems import ApiError, FieldError
from .records import Delivery, Task, iso, now
from .settings import Settings
from .statuses import WEBHOOK_NUMBERS

SCHEDULE = (1.0, 5.0, 30.0, 300.0, 1800.0, 7200.0)
"""Seconds before each further attempt."""
_ANSWER_SECONDS = 10.0
_AT_ONCE = 16
"""Attempts under way; a receiver that is slow holds up nobody else."""
_LONGEST_WAIT = 60.0
"""Seconds after which the store is asked anew, should nobody have said that there is something."""
_GONE = 410

log = logging.getLogger("wan_local")


class Deliveries(Protocol):
    """What of the store this room needs."""

    async def due_deliveries(self, at: datetime) -> list[Delivery]:
        """Those to be tried at that time."""
        ...

    async def next_delivery_at(self) -> datetime | None:
        """When the next one is to be tried."""
        ...

    async def save_delivery(self, delivery: Delivery) -> None:
        """Keep a changed one."""
        ...


def sign(secret: str, delivery_id: str, timestamp: int, body: bytes) -> str:
    """Value of `webhook-signature`: "v1," and base64 of an HMAC-SHA256.

    Args:
        secret: as in the file `webhook_secret`.
        delivery_id: of the header `webhook-id`, the same at each attempt.
        timestamp: of the header `webhook-timestamp`, unix seconds.
        body: the bytes that are sent.
    """
    signed = f"{delivery_id}.{timestamp}.".encode() + body
    mac = hmac.new(signing_bytes(secret), signed, hashlib.sha256)
    return "v1," + base64.b64encode(mac.digest()).decode()


class Webhooks:
    """Sends what the store holds. Nobody waits for it but its own loop.

    A delivery may arrive twice if the server is killed in the moment between answer and record:
    receivers tell by `webhook-id`.

    Args:
        store: holds deliveries and takes down every attempt.
        guard: decides where connections may go, at each attempt anew.
        settings: which status numbers are sent.
        secret: signs, see `sign`; no API key is ever sent.
        schedule: seconds before each further attempt; after the last one it is given up.
        answer_seconds: how long a receiver may take.
        heard: told of each attempt: delivered, failed (it is repeated) or given_up.
    """

    def __init__(
        self,
        store: Deliveries,
        guard: Guard,
        settings: Settings,
        secret: str,
        *,
        schedule: Sequence[float] = SCHEDULE,
        answer_seconds: float = _ANSWER_SECONDS,
        heard: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store, self._guard, self._settings, self._secret = store, guard, settings, secret
        self._heard = heard
        self._schedule, self._answer_seconds = tuple(schedule), answer_seconds
        self._news = asyncio.Event()
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._loop: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None

    async def check(self, url: Any) -> str:
        """A receiver's address as a request gave it.

        Raises:
            ApiError: validation_error that names `webhook`.
        """
        try:
            await self._guard.check_url(url)
        except ApiError as error:
            wrong = FieldError("webhook", "invalid", f"webhook: {error.detail}")
            raise ApiError("validation_error", wrong.message, [wrong]) from None
        return url

    def payload(self, task: Task, output: Mapping[str, Any] | None) -> dict[str, Any]:
        """What a receiver gets: the keys of the apps' pages, and `status_text`.

        Args:
            task: at its end.
            output: with addresses in place of files; counts only for a completed one.
        """
        number = int(task.status)
        if not self._settings.sdk_webhook_numbers:
            number = WEBHOOK_NUMBERS[task.status]
        completed = task.status.text == "completed"
        return {
            "id": task.id,
            "status": number,
            "status_text": task.status.text,
            "output": output if completed else None,
            "error": task.error,
            "session_id": task.session_id,
            "created_at": iso(task.created_at),
            "updated_at": iso(task.updated_at),
        }

    def delivery(self, task: Task, output: Mapping[str, Any] | None) -> Delivery | None:
        """The record to save together with the end of a task; None if it wants no webhook. Call
        `wake` afterwards. Args: as `payload`."""
        if not task.webhook:
            return None
        body = json.dumps(self.payload(task, output), separators=(",", ":"))
        return Delivery(task.id, task.webhook, body)

    async def start(self) -> None:
        """Begin to send; what an earlier process left undelivered comes first."""
        self._session = aiohttp.ClientSession(
            connector=self._guard.connector(),
            timeout=aiohttp.ClientTimeout(total=self._answer_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
        self._loop = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop; an attempt that is under way counts as not made."""
        running = [task for task in (self._loop, *self._under_way.values()) if task]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._session:
            await self._session.close()

    def wake(self) -> None:
        """There is a new delivery."""
        self._news.set()

    async def _run(self) -> None:
        while True:
            self._news.clear()
            try:
                wait = await self._begin_due()
            except Exception:  # the store may be busy for a moment; nothing may end this loop
                log.exception("The webhooks that are due could not be read.")
                wait = 1.0
            try:
                await asyncio.wait_for(self._news.wait(), wait)
            except asyncio.TimeoutError:
                continue

    async def _begin_due(self) -> float:
        """Start attempts; seconds until there may be more."""
        for delivery in await self._store.due_deliveries(now()):
            if len(self._under_way) >= _AT_ONCE:
                return _LONGEST_WAIT  # the end of each attempt wakes the loop
            if delivery.id not in self._under_way:
                attempt = asyncio.create_task(self._attempt(delivery))
                self._under_way[delivery.id] = attempt
        next_at = await self._store.next_delivery_at()
        if next_at is None:
            return _LONGEST_WAIT
        seconds = (next_at - now()).total_seconds()
        # What is due already is under way, and wakes the loop at its end.
        return min(seconds, _LONGEST_WAIT) if seconds > 0 else 1.0

    async def _attempt(self, delivery: Delivery) -> None:
        at = now()
        try:
            result = await self._send(delivery)
            delivery.attempts.append({"at": iso(at), **result})
            self._settle(delivery, result.get("status"))
            await self._store.save_delivery(delivery)
            self._heard(_result(delivery))
        except Exception:
            log.exception("The webhook of %s could not be handled.", delivery.task_id)
            await asyncio.sleep(1)  # or it would be due again at once
        finally:
            self._under_way.pop(delivery.id, None)
            self._news.set()

    def _settle(self, delivery: Delivery, status: int | None) -> None:
        made = len(delivery.attempts)
        delivery.delivered = status is not None and 200 <= status < 300
        if delivery.delivered or status == _GONE or made > len(self._schedule):
            delivery.next_at = None
            if not delivery.delivered:
                why = delivery.attempts[-1].get("error") or f"it answered {status}"
                log.warning(
                    "The webhook of %s was given up after attempt %d: %s",
                    delivery.task_id,
                    made,
                    why,
                )
            return
        delivery.next_at = now() + timedelta(seconds=self._schedule[made - 1])

    async def _send(self, delivery: Delivery) -> dict[str, Any]:
        """One attempt: the receiver's status, or why there is none."""
        assert self._session is not None
        body, timestamp = delivery.body.encode(), int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "ComfyUI-WanLocal",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(self._secret, delivery.id, timestamp, body),
        }
        try:
            url = self._guard.parse(delivery.url)
            async with self._session.post(
                url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                return {"status": answer.status}
        except ApiError as error:
            return {"error": error.detail}
        except asyncio.TimeoutError:
            return {"error": f"no answer within {self._answer_seconds:g} seconds"}
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return {"error": f"not reached ({type(error).__name__})"}


def _result(delivery: Delivery) -> str:
    if delivery.delivered:
        return "delivered"
    return "given_up" if delivery.next_at is None else "failed"
