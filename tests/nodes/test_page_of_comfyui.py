"""The shipped graphs on ComfyUI's own page, in a headless Chromium, on every ComfyUI found."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from host.hosts import find_checkouts

pytest.importorskip("playwright.sync_api")
ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))
from comfy_page import ComfyPage, open_browser  # noqa: E402
from node_texts import open_texts  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NAMES = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
TINY = "tiny (random weights, for a try without a download)"
TINY_ANIMATE = "tiny Animate (random weights, for a try without a download)"
TINY_POSE = "tiny (knows only the drawn puppet, for tests)"
pytestmark = [
    pytest.mark.comfy,
    pytest.mark.skipif(not CHROMIUM, reason="needs Debian's chromium"),
    pytest.mark.skipif(not find_checkouts(), reason="no ComfyUI checkout found"),
]


@pytest.fixture(scope="module", params=find_checkouts(), ids=lambda path: path.name)
def real(request, host_pool):
    """A real ComfyUI with something to load."""
    host = host_pool.get(request.param)
    host.put_input(ROOT / "assets" / "character.png", "example.png")
    host.put_input(ROOT / "assets" / "puppet.mp4", "driving.mp4")
    return host


@pytest.fixture(scope="module")
def browser():
    with open_browser(CHROMIUM) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(browser, real):
    with ComfyPage(browser, real.url) as page:
        yield page
        assert page.errors == []


def graph(name):
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text("utf-8"))


def shrink(page, name):
    """Tiny models and few steps, set as a user would; a minute of work becomes a second."""
    kind = TINY if "i2v" in name else TINY_ANIMATE
    page.set("WanLocalModelLoader", model=kind, text_encoder="auto", vae="auto")
    page.set("WanLocalModelLoader", image_encoder="auto")
    page.set("WanLocalImageToVideo", width=64, height=64, num_frames=9)
    page.set("WanLocalSampler", num_inference_steps=2)
    page.set("WanLocalPoseModelLoader", detector=TINY_POSE, pose=TINY_POSE)
    size = {"width": 128, "height": 160}
    page.set("WanLocalReadDrivingVideo", fps=8, frame_limit=9, size_mode="area", **size)
    page.set("WanLocalAnimate", resolution_width=64, resolution_height=80)
    page.set("WanLocalAnimateSampler", sampling_steps=2, clip_len=9)


@pytest.mark.parametrize("name", NAMES)
def test_each_graph_opens_runs_and_plays(page, name):
    page.open(graph(name))
    assert page.unknown_nodes() == []
    if name.endswith("_mini"):
        page.set("WanLocalAnimateSampler", sampling_steps=2)
        page.set("WanLocalReadDrivingVideo", frame_limit=17)
    else:
        shrink(page, name)
    made = page.wait_for(page.queue())
    files = [entry for entry in made if entry["type"] == "output"]  # no glimpses under nodes
    assert files and all(f["filename"].endswith(".mp4") for f in files)
    for file in files:
        width, seconds = page.plays(file)
        assert width >= 48 and seconds > 0.4


def test_the_browser_lists_the_templates(page, real):
    known = page.page.request.get(f"{real.url}/workflow_templates").json()
    assert sorted(known["ComfyUI-WanLocal"]) == NAMES


@pytest.mark.parametrize("language", ["en", "zh"])
def test_help_pages_are_served(page, real, language):
    address = f"{real.url}/extensions/ComfyUI-WanLocal/docs/WanLocalSampler/{language}.md"
    text = page.page.request.get(address).text()
    assert text == (ROOT / f"web/docs/WanLocalSampler/{language}.md").read_text("utf-8")


def test_the_help_panel_shows_the_picture(page, real):
    page.open({**graph("wan_i2v_mini"), "nodes": [], "links": []})
    page.surround(["WanLocalImageToVideo", "WanLocalSampler"], "WanLocalSampler")
    address, width = page.help_picture("WanLocalSampler")
    assert address.startswith(f"{real.url}/extensions/ComfyUI-WanLocal/docs/") and width > 400


def test_the_page_speaks_chinese(browser, real):
    chinese = open_texts("zh")
    with ComfyPage(browser, real.url, "zh") as page:
        page.open({**graph("wan_i2v_mini"), "nodes": [], "links": []})
        page.surround(["WanLocalImageToVideo", "WanLocalSampler"], "WanLocalSampler")
        shown = page.texts()["WanLocalSampler"]
        assert shown[0] == chinese.say("Wan Sampler")
        assert {chinese.name("model"), chinese.name("latents")} <= set(shown)
