"""A service on a free port, in a thread, over an executor that tests steer."""

import asyncio
import json
import threading
from dataclasses import replace

import pytest
import requests
from aiohttp import web
from scripted_executor import ScriptedExecutor
from serve_process import KEY
from small_media import small_picture, small_video
from wan_local.wan.params import APPS
from wan_local.wan.service.catalog import Catalog, catalog_app
from wan_local.wan.service.keys import Keys
from wan_local.wan.service.service import Service
from wan_local.wan.service.settings import Settings

__all__ = ["make_service", "service"]


class Running:
    """A running service, spoken to from the test's own thread."""

    def __init__(self, folder, settings):
        self.folder, self.settings = folder, settings
        self.executor = ScriptedExecutor(small_video)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.service = None
        self.call(self.begin())

    async def begin(self):
        self.executor = self.executor if self.service is None else ScriptedExecutor(small_video)
        catalog = Catalog([catalog_app(app) for app in APPS.values()])
        keys = Keys.load(self.folder, {"WAN_LOCAL_API_KEY": KEY})
        self.service = Service(self.settings, self.executor, catalog, keys)
        app = web.Application(client_max_size=1 << 30)
        app.router.add_routes(self.service.routes())
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        await self.service.start()

    async def end(self):
        await self.service.close()
        await self.runner.cleanup()

    def restart(self, **changes):
        """The same data under a new service and executor."""
        self.call(self.end())
        self.settings = replace(self.settings, **changes)
        self.call(self.begin())

    def close(self):
        self.call(self.end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(timeout=10)

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=60)

    @property
    def base_url(self):
        return f"http://127.0.0.1:{self.port}/infsh"

    def ask(self, method, path, key=KEY, **options):
        """A request with the key; `path` may be a whole address."""
        address = path if path.startswith("http") else self.base_url + path
        headers = {**({"Authorization": f"Bearer {key}"} if key else {})}
        headers |= options.pop("headers", {})
        return requests.request(method, address, headers=headers, timeout=30, **options)

    def data(self, method, path, **options):
        """What the envelope of a good answer holds."""
        answer = self.ask(method, path, **options)
        assert answer.ok, answer.text
        return answer.json()["data"] if answer.content else None

    def upload(self, data, name="a.png"):
        """Upload bytes; the uri."""
        files = [{"filename": name, "size": len(data)}]
        [made] = self.data("POST", "/files", json={"files": files})
        assert requests.put(made["upload_url"], data=data, timeout=30).ok
        return made["uri"]

    def i2v(self, **values):
        """The body of a good request."""
        picture = values.pop("input_image", None) or self.upload(small_picture())
        values = {"prompt": "a cat", "input_image": picture, **values}
        return {"app": "infsh/wan2-1-i2v", "input": values}

    def run(self, **values):
        """Run the app; the task as answered."""
        return self.data("POST", "/apps/run", json=self.i2v(**values))

    def wait(self, task_id):
        """Follow a task to its end; its last state."""
        path = f"/tasks/{task_id}/stream"
        with self.ask("GET", path, stream=True) as answer:
            assert answer.ok, answer.text
            lines = [json.loads(line) for line in answer.iter_lines() if line]
        return lines[-1]


@pytest.fixture
def make_service(tmp_path):
    """Makes services with other settings."""
    made = []

    def make(**changes):
        settings = Settings(tmp_path / f"data{len(made)}", **{"min_free": 0, **changes})
        made.append(Running(settings.data, settings))
        return made[-1]

    yield make
    for service in made:
        service.close()


@pytest.fixture
def service(make_service):
    """A service with ordinary settings."""
    return make_service()
