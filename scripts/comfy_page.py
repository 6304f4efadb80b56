"""ComfyUI's page in headless Chromium: open graphs, look at them, queue them."""

from __future__ import annotations

import json
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
_RED = """() => app.graph._nodes
  .filter((n) => n.has_errors || !LiteGraph.registered_node_types[n.type])
  .map((n) => n.type)"""
# The page's own menus, so that a picture shows the graph alone.
_BARE = """.comfyui-body-top, .comfyui-body-left, .comfyui-body-right, .comfyui-body-bottom,
  .side-tool-bar-container, .p-toast, .graph-canvas-panel > *:not(canvas), .comfyui-menu,
  .actionbar, .actionbar-container, .p-splitter-gutter, .workflow-tabs-container,
  .side-bar-button, .pointer-events-auto { visibility: hidden !important; }
  .dom-widget, .dom-widget * { visibility: visible !important; }"""


class ComfyPage:
    """One page; use it in a `with` block.

    Args:
        url: of a running ComfyUI.
        language: "en" or "zh".
        size: of the window, pixels.
        chromium: path of the browser.
    """

    def __init__(
        self,
        url: str,
        language: str = "en",
        size: tuple[int, int] = (1600, 1000),
        chromium: str = "/usr/bin/chromium",
    ) -> None:
        self._url, self._language, self._size, self._chromium = url, language, size, chromium
        self.errors: list[str] = []
        """Uncaught errors of the page's scripts."""

    def __enter__(self) -> ComfyPage:
        from playwright.sync_api import sync_playwright

        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(
            executable_path=self._chromium, args=["--no-sandbox"]
        )
        width, height = self._size
        self.page = self._browser.new_page(viewport={"width": width, "height": height})
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        for name, value in (_SETTINGS | {"Comfy.Locale": self._language}).items():
            self.page.request.post(f"{self._url}/api/settings/{name}", data=json.dumps(value))
        self.page.goto(self._url)
        self.page.wait_for_function(_READY, timeout=60_000)
        self.page.wait_for_timeout(1500)  # extensions register after that
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._browser.close()
        self._playwright.stop()

    def open(self, graph: dict[str, Any]) -> None:
        """Load a graph as if its file were dropped on the page."""
        self.page.evaluate("async (g) => { await app.loadGraphData(g); }", graph)
        self.page.keyboard.press("Escape")  # a note of missing files, which tests have not
        self.page.wait_for_timeout(300)

    def red_nodes(self) -> list[str]:
        """Types of nodes that are marked, or unknown."""
        return self.page.evaluate(_RED)

    def queue(self) -> str:
        """Queue the graph as its button does; the id of the job."""
        with self.page.expect_response(
            lambda r: r.url.endswith("/prompt") and r.request.method == "POST"
        ) as answer:
            self.page.evaluate("async () => { await app.queuePrompt(0, 1); }")
        return answer.value.json()["prompt_id"]

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
