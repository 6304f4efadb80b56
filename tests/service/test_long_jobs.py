"""A job of more than 60 s, the time after which the SDK's asyncio client cuts a stream."""

import asyncio
import threading

import pytest
from serve_process import KEY

inferencesh = pytest.importorskip("inferencesh")
SECONDS = 63


def test_both_clients_wait_for_a_long_silent_job(service):
    async def script(job, tell):
        await asyncio.sleep(SECONDS)
        return service.executor.completed(job)

    service.executor.script = script
    task = service.run()["id"]
    found = {}

    def wait():
        client = inferencesh.inference(api_key=KEY, base_url=service.base_url)
        found["sync"] = client.wait_for_completion(task)

    async def wait_async():
        client = inferencesh.async_inference(api_key=KEY, base_url=service.base_url)
        found["async"] = await client.wait_for_completion(task)

    threads = [
        threading.Thread(target=wait),
        threading.Thread(target=lambda: asyncio.run(wait_async())),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=SECONDS + 60)
    assert {name: task["status"] for name, task in found.items()} == {"sync": 10, "async": 10}
