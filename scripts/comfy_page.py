"""ComfyUI's page in headless Chromium: open graphs, look at them, queue them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

_SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Workflow.Persist": False,
    "Comfy.Workflow.WorkflowTabsPosition": "Sidebar",
    "Comfy.Minimap.Visible": False,
    "Comfy.Workflow.ShowMissingModelsWarning": False,
    "Comfy.RightSidePanel.IsOpen": False,
    "Comfy.Graph.CanvasInfo": False,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,  # texts also where they are small
}
_READY = "() => window.app && window.app.graph && window.LiteGraph"
_FIT = """([left, top, right, low]) => {
  const canvas = app.canvas, box = canvas.canvas.getBoundingClientRect();
  const scale = Math.min(box.width / (right - left), box.height / (low - top), 1.5);
  canvas.ds.scale = scale;
  canvas.ds.offset = [
    box.width / scale / 2 - (left + right) / 2,
    box.height / scale / 2 - (top + low) / 2,
  ];
  canvas.setDirty(true, true);
  return {
    x: Math.max(0, box.left + (left + canvas.ds.offset[0]) * scale),
    y: Math.max(0, box.top + (top + canvas.ds.offset[1]) * scale),
    width: Math.min(box.width, (right - left) * scale),
    height: Math.min(box.height, (low - top) * scale),
  };
}"""
_BOUNDS = """(notes) => {
  let [left, top, right, low] = [Infinity, Infinity, -Infinity, -Infinity];
  const add = (x, y, w, h) => {
    left = Math.min(left, x); top = Math.min(top, y);
    right = Math.max(right, x + w); low = Math.max(low, y + h);
  };
  for (const n of app.graph._nodes) if (notes || n.type !== "MarkdownNote") add(n.pos[0], n.pos[1] - 30, n.size[0], n.size[1] + 30);
  for (const g of app.graph._groups) add(...g._bounding);
  return [left - 20, top - 20, right + 20, low + 20];
}"""
_PLAY = """async ({ filename, subfolder, type }) => {
  const video = document.createElement("video");
  video.muted = true;
  video.src = "/view?" + new URLSearchParams({ filename, subfolder, type });
  await new Promise((done, fail) => {
    video.oncanplay = done;
    video.onerror = () => fail(video.error.message);
  });
  await video.play();
  return [video.videoWidth, video.duration];
}"""
_CALM = "() => app.graph._nodes.forEach((node) => { node.has_errors = false; })"
_SURROUND = """([kinds, shown]) => {
  app.graph.clear();
  const made = [], main = kinds.indexOf(shown);
  let [x, y, widest] = [0, 0, 0];
  for (const kind of kinds) {
    const node = LiteGraph.createNode(kind);
    app.graph.add(node);
    node.setSize(node.computeSize());
    if (node.size[0] < 260) node.setSize([260, node.size[1]]);
    const place = kinds.indexOf(kind);
    if (place === main || place === main + 1) { x += widest + 90; y = 0; widest = 0; }
    if (!made.length) x = 0;
    node.pos = [x, y];
    y += node.size[1] + 70;
    widest = Math.max(widest, node.size[0]);
    if (kind === shown) { node.color = "#2f5d50"; node.bgcolor = "#3f7364"; }
    const free = (input) => input.link == null;
    for (const source of [...made].reverse()) {
      (source.outputs || []).forEach((output, slot) => {
        const fits = (i) => free(i) && (output.type === "*"
          ? ["shift", "labels", "value"].includes(i.name)
          : i.type === output.type && !i.widget);
        const at = (node.inputs || []).findIndex(fits);
        const taken = node.inputs?.some((i) => i.link != null && i.type === output.type);
        if (at >= 0 && !(taken && output.type !== "IMAGE")) source.connect(slot, node, at);
      });
    }
    made.push(node);
  }
}"""
_UNKNOWN = """() => app.graph._nodes
  .map((n) => n.type).filter((type) => !LiteGraph.registered_node_types[type])"""
_SET = """([kind, values]) => {
  for (const node of app.graph._nodes.filter((n) => n.type === kind))
    for (const widget of node.widgets || [])
      if (widget.name in values) widget.value = values[widget.name];
}"""
_SELECT = """(kind) => {
  const node = app.graph._nodes.find((n) => n.type === kind), canvas = app.canvas;
  canvas.selectNode(node);
  canvas.ds.scale = 1;  // the buttons over it must lie in the window
  canvas.ds.offset = [200 - node.pos[0], 300 - node.pos[1]];
  canvas.setDirty(true, true);
}"""
_TEXTS = """() => Object.fromEntries(app.graph._nodes.map((n) => [n.type, [
  n.title, ...(n.inputs || []).map((i) => i.label || i.localized_name || i.name),
  ...(n.outputs || []).map((o) => o.label || o.localized_name || o.name)]]))"""
# The page's own menus, so that a picture shows the graph alone.
_BARE = """.comfyui-body-top, .comfyui-body-left, .comfyui-body-right, .comfyui-body-bottom,
  .side-tool-bar-container, .p-toast, .graph-canvas-panel > *:not(canvas), .comfyui-menu,
  .actionbar, .actionbar-container, .p-splitter-gutter, .workflow-tabs-container,
  .side-bar-button, .pointer-events-auto { visibility: hidden !important; }
  .dom-widget, .dom-widget * { visibility: visible !important; }"""


@contextmanager
def open_browser(path: str = "/usr/bin/chromium") -> Iterator[Any]:
    """Headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class ComfyPage:
    """One page; use it in a `with` block.

    Args:
        browser: from `open_browser`.
        url: of a running ComfyUI.
        language: "en" or "zh".
        size: of the window, pixels.
    """

    def __init__(
        self, browser: Any, url: str, language: str = "en", size: tuple[int, int] = (1600, 1000)
    ) -> None:
        self._browser, self.url, self._language, self._size = browser, url, language, size
        self.errors: list[str] = []
        """Uncaught errors of the page's scripts."""

    def __enter__(self) -> ComfyPage:
        width, height = self._size
        self.page = self._browser.new_page(viewport={"width": width, "height": height})
        self.page.on(
            "pageerror", lambda error: self.errors.append(f"{error.message}\n{error.stack}")
        )
        for name, value in (_SETTINGS | {"Comfy.Locale": self._language}).items():
            self.page.request.post(f"{self.url}/api/settings/{name}", data=json.dumps(value))
        self.reload()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.page.close()

    def reload(self) -> None:
        """Open the page anew: it asks then which files there are."""
        self.page.goto(self.url)
        self.page.wait_for_function(_READY, timeout=60_000)
        self.page.wait_for_timeout(1500)  # extensions register after that
        self.errors.clear()  # those of its own start are not ours

    def open(self, graph: dict[str, Any]) -> None:
        """Load a graph as if its file were dropped on the page."""
        self.page.evaluate("async (g) => { await app.loadGraphData(g); }", graph)
        self.page.keyboard.press("Escape")  # a note of missing files, which tests have not
        self.page.wait_for_timeout(300)

    def unknown_nodes(self) -> list[str]:
        """Types of nodes that the page does not know."""
        return self.page.evaluate(_UNKNOWN)

    def set(self, kind: str, **values: Any) -> None:
        """Set widgets of all nodes of a type."""
        self.page.evaluate(_SET, [kind, values])

    def texts(self) -> dict[str, list[str]]:
        """What the page calls each node, its inputs and its outputs, by type."""
        return self.page.evaluate(_TEXTS)

    def queue(self) -> str:
        """Queue the graph as its button does; the id of the job."""
        with self.page.expect_response(
            lambda r: r.url.endswith("/prompt") and r.request.method == "POST"
        ) as answer:
            self.page.evaluate("async () => { await app.queuePrompt(0, 1); }")
        body = answer.value.json()
        if "prompt_id" not in body:
            raise ValueError(json.dumps(body)[:2000])
        return body["prompt_id"]

    def wait_for(self, prompt_id: str, seconds: float = 240) -> list[dict[str, Any]]:
        """Files of a job when it is finished, as the page is told of them.

        Raises:
            ValueError: it failed; with the host's words.
            TimeoutError: it is not finished in time.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            known = self.page.request.get(f"{self.url}/history/{prompt_id}").json()
            if prompt_id in known:
                job = known[prompt_id]
                if not job["status"]["completed"]:
                    raise ValueError(json.dumps(job["status"]["messages"][-1])[:3000])
                self.page.wait_for_timeout(500)  # the page is told of nodes until then
                outputs = [v for o in job["outputs"].values() for v in o.values()]
                entries = [e for v in outputs if isinstance(v, list) for e in v]
                return [e for e in entries if isinstance(e, dict) and "filename" in e]
            self.page.wait_for_timeout(200)
        raise TimeoutError(f"job {prompt_id} is not finished after {seconds} s")

    def plays(self, entry: dict[str, Any]) -> tuple[int, float]:
        """Width in pixels and length in seconds of a video, as the browser plays it."""
        return tuple(self.page.evaluate(_PLAY, entry))

    def help_picture(self, kind: str) -> tuple[str, int]:
        """Open the help of a node as a user does.

        Args:
            kind: a type of which there is a node in the graph.
        Returns:
            Address and width in pixels of the picture on it.
        """
        self.page.evaluate(_SELECT, kind)
        button = self.page.locator('[data-testid="info-button"]')
        button.click(timeout=20_000)
        picture = self.page.locator(f'img[src*="/docs/img/{kind}"]').first
        picture.wait_for(timeout=20_000)
        self.page.wait_for_timeout(500)
        return tuple(picture.evaluate("(i) => [i.src, i.naturalWidth]"))

    def fetch(self, entry: dict[str, Any]) -> bytes:
        """A file of a job, from `wait_for`."""
        wanted = {key: entry[key] for key in ("filename", "subfolder", "type")}
        return self.page.request.get(f"{self.url}/view", params=wanted).body()

    def surround(self, kinds: list[str], shown: str) -> None:
        """Make a small graph: a node, left of it what it reads from, right what reads from it.

        Args:
            kinds: types of the nodes, in the order of running; each reads what it can from those
                before.
            shown: the one among them that stands in the middle and stands out.
        """
        self.page.evaluate(_SURROUND, [kinds, shown])
        self.page.wait_for_timeout(300)

    def picture(self, path: Path, bare: bool = True, notes: bool = True) -> None:
        """The whole graph as a picture; JPEG or PNG by the name's end.

        Args:
            path: of the file.
            bare: without the page's menus.
            notes: whether notes belong to the graph.
        """
        if bare:
            self.page.add_style_tag(content=_BARE)
        self.page.evaluate(_CALM)  # red frames of files that this host has not
        clip = self.page.evaluate(_FIT, self.page.evaluate(_BOUNDS, notes))
        self.page.wait_for_timeout(600)
        quality = {"quality": 88} if path.suffix == ".jpg" else {}
        self.page.screenshot(path=str(path), clip=clip, **quality)
