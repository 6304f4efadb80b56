import asyncio
import base64
import hashlib
import hmac
import json
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from aiohttp import web
from file_records import Records, settings
from wan_local.wan.service.guard import Guard
from wan_local.wan.service.problems import ApiError
from wan_local.wan.service.records import Delivery, Task, now
from wan_local.wan.service.statuses import Status
from wan_local.wan.service.webhooks import SCHEDULE, Webhooks

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
FAST = (0.01,) * 6


class Receiver:
    """A server on this machine that answers with the statuses it is given, then with 200."""

    def __init__(self, *statuses):
        self.statuses, self.got = list(statuses), []

    async def answer(self, request):
        self.got.append((dict(request.headers), await request.read()))
        status = self.statuses.pop(0) if self.statuses else 200
        if status == "hang":
            await asyncio.sleep(60)
        if status == "cut":
            request.transport.abort()
        headers = {"Location": "/elsewhere"} if status == 302 else {}
        return web.Response(status=status if isinstance(status, int) else 200, headers=headers)

    @asynccontextmanager
    async def running(self, port=0):
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/hook"
        await runner.cleanup()


def ended(status=Status.COMPLETED, **changes):
    return Task("infsh/wan2-1-i2v", "v1", {}, status=status, **changes)


@pytest.fixture
def store(tmp_path):
    with Records.opened(tmp_path) as records:
        yield records


@pytest.fixture
def make(store, tmp_path):
    def make(local=True, lookup=None, **options):
        limits = settings(tmp_path, listens_on_loopback=local)
        options = {"schedule": FAST, **options}
        return Webhooks(store, Guard(limits, lookup), limits, SECRET, **options)

    return make


@asynccontextmanager
async def sending(webhooks):
    await webhooks.start()
    yield
    await webhooks.close()


async def until(condition):
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("did not come")


async def deliver(webhooks, store, url, task=None, output=None):
    """Send one and wait for its end; the record of it."""
    delivery = webhooks.delivery(task or ended(webhook=url), output)
    async with sending(webhooks):
        await store.save_delivery(delivery)
        webhooks.wake()
        await until(lambda: store.sent[delivery.id].next_at is None)
    return store.sent[delivery.id]


@pytest.mark.parametrize(
    ("status", "number"), [(Status.COMPLETED, 9), (Status.FAILED, 10), (Status.CANCELLED, 11)]
)
def test_the_payload_speaks_the_pages_numbers(make, status, number, tmp_path):
    task = ended(status, error="why" if status == Status.FAILED else "", session_id="sess_1")
    body = make().payload(task, {"video": {"uri": "http://h/x.mp4"}})
    assert list(body) == [
        "id",
        "status",
        "status_text",
        "output",
        "error",
        "session_id",
        "created_at",
        "updated_at",
    ]
    assert (body["id"], body["status"], body["status_text"]) == (task.id, number, status.text)
    assert (body["output"] is None) == (status != Status.COMPLETED)
    assert (body["error"], body["session_id"]) == (task.error, "sess_1")
    assert body["created_at"].endswith("Z")
    limits = settings(tmp_path, sdk_webhook_numbers=True)
    assert Webhooks(None, None, limits, SECRET).payload(task, None)["status"] == int(status)


def test_a_task_without_a_webhook_has_no_delivery(make):
    assert make().delivery(ended(), None) is None


def test_a_delivery_is_signed_so_that_its_receiver_can_check_it(make, store):
    async def scene():
        receiver = Receiver()
        async with receiver.running() as url:
            done = await deliver(make(), store, url, output={"video": "\u732b"})
        ((headers, body),) = receiver.got
        assert done.delivered and [a["status"] for a in done.attempts] == [200]
        assert body == done.body.encode() and body.isascii() and b": " not in body
        assert json.loads(body)["output"] == {"video": "\u732b"}
        assert headers["Content-Type"] == "application/json"
        assert headers["webhook-id"] == done.id and "Authorization" not in headers
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
        signed = f"{done.id}.{headers['webhook-timestamp']}.".encode() + body
        mac = hmac.new(b"k" * 32, signed, hashlib.sha256).digest()
        assert headers["webhook-signature"] == "v1," + base64.b64encode(mac).decode()

    asyncio.run(scene())


def test_a_receiver_that_fails_gets_the_same_body_again(make, store):
    async def scene():
        receiver = Receiver(500, 404, 302, "cut")
        async with receiver.running() as url:
            done = await deliver(make(), store, url)
        assert done.delivered and len(receiver.got) == 5
        assert len({body for _, body in receiver.got}) == 1
        assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
        assert [a.get("status") for a in done.attempts] == [500, 404, 302, None, 200]
        assert "not reached" in done.attempts[3]["error"]
        assert all(a["at"].endswith("Z") for a in done.attempts)

    asyncio.run(scene())


def test_a_receiver_that_is_silent_or_away_is_tried_again(make, store):
    async def scene():
        receiver = Receiver("hang")
        async with receiver.running() as url:
            done = await deliver(make(answer_seconds=0.1), store, url)
        assert done.delivered and "no answer within 0.1 seconds" in done.attempts[0]["error"]
        away = await deliver(make(), store, url)
        assert not away.delivered and len(away.attempts) == 7

    asyncio.run(scene())


def test_gone_ends_it(make, store):
    async def scene():
        receiver = Receiver(410)
        async with receiver.running() as url:
            done = await deliver(make(), store, url)
        assert not done.delivered and len(receiver.got) == len(done.attempts) == 1

    asyncio.run(scene())


def test_the_pauses_are_those_of_the_schedule_and_end(make, store):
    webhooks, delivery = make(schedule=SCHEDULE), Delivery("task", "http://h/", "{}")
    pauses = []
    for _ in range(7):
        delivery.attempts.append({"at": "", "status": 500})
        before = now()
        webhooks._settle(delivery, 500)
        if delivery.next_at:
            pauses.append(round((delivery.next_at - before).total_seconds()))
    assert pauses == [1, 5, 30, 300, 1800, 7200]
    assert delivery.next_at is None and not delivery.delivered


def test_deliveries_continue_after_a_restart(make, store):
    async def scene():
        receiver = Receiver(500)
        async with receiver.running() as url:
            first = make(schedule=(3600.0,))
            delivery = first.delivery(ended(webhook=url), None)
            await store.save_delivery(delivery)
            async with sending(first):
                await until(lambda: store.sent[delivery.id].attempts)
            waiting = store.sent[delivery.id]
            assert waiting.next_at > now() + timedelta(minutes=59)
            async with sending(make()):
                await asyncio.sleep(0.1)
                assert len(receiver.got) == 1, "it is not due yet"
            await store.save_delivery(replace(waiting, next_at=now()))
            async with sending(make()):
                await until(lambda: store.sent[delivery.id].delivered)
        assert [a["status"] for a in store.sent[delivery.id].attempts] == [500, 200]
        assert receiver.got[0][1] == receiver.got[1][1]

    asyncio.run(scene())


def test_closing_in_the_middle_of_an_attempt_leaves_it_due(make, store):
    async def scene():
        receiver = Receiver("hang")
        async with receiver.running() as url:
            webhooks = make()
            delivery = webhooks.delivery(ended(webhook=url), None)
            await store.save_delivery(delivery)
            async with sending(webhooks):
                await until(lambda: receiver.got)
            assert store.sent[delivery.id] == delivery

    asyncio.run(scene())


def test_a_slow_receiver_holds_up_nobody(make, store):
    async def scene():
        slow, fast = Receiver(*["hang"] * 9), Receiver()
        async with slow.running() as slow_url, fast.running() as fast_url:
            webhooks = make()
            async with sending(webhooks):
                for url in [*[slow_url] * 3, *[fast_url] * 30]:
                    await store.save_delivery(webhooks.delivery(ended(webhook=url), None))
                webhooks.wake()
                await until(lambda: len(fast.got) == 30)
            assert len({headers["webhook-id"] for headers, _ in fast.got}) == 30
            assert len(slow.got) == 3, "an attempt under way is not begun again"

    asyncio.run(scene())


def test_a_store_that_fails_for_a_moment_does_not_end_the_loop(make, store, caplog):
    async def scene():
        receiver = Receiver()
        working, failures = store.due_deliveries, [OSError("locked")]

        async def due(at):
            if failures:
                raise failures.pop()
            return await working(at)

        store.due_deliveries = due
        async with receiver.running() as url:
            assert (await deliver(make(), store, url)).delivered

    asyncio.run(scene())
    assert "could not be read" in caplog.text


def test_forbidden_receivers_are_refused_at_submission_by_name(make):
    async def lookup(host, port):
        return ["10.0.0.1"]

    webhooks = make(local=False, lookup=lookup)
    for url in ("http://127.0.0.1/", "http://inner.test/", "ftp://8.8.8.8/", "x", "", 5, [], {}):
        with pytest.raises(ApiError) as refusal:
            asyncio.run(webhooks.check(url))
        assert refusal.value.status == 422
        assert [e.field for e in refusal.value.errors] == ["webhook"]
    assert asyncio.run(webhooks.check("https://8.8.8.8/hook")) == "https://8.8.8.8/hook"


def test_a_name_that_moved_into_a_forbidden_network_is_not_reached(make, store):
    async def lookup(host, port):
        return ["127.0.0.1"]

    async def scene():
        receiver = Receiver()
        async with receiver.running() as url:
            webhooks = make(local=False, lookup=lookup, schedule=())
            for target in (url, url.replace("127.0.0.1", "moved.test")):
                done = await deliver(webhooks, store, target)
                assert "must not reach" in done.attempts[0]["error"]
        assert receiver.got == []

    asyncio.run(scene())
