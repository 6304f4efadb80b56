"""The service's page in a headless Chromium, over `python -m wan serve` with the tiny models."""

import shutil
import time

import pytest
from serve_process import ASSETS, KEY, LONG, ServeProcess

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Debian's chromium")
SECONDS = 180_000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    process = ServeProcess(tmp_path_factory.mktemp("serve"))
    yield process
    process.stop()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, server):
    page = browser.new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(server.base_url)  # without its last slash
    page.fill("#key", KEY)
    page.press("#key", "Tab")
    page.wait_for_selector("#fields .field", timeout=SECONDS)
    yield page
    page.close()
    assert not problems


def wait(page, script):
    """Until a script is true; the page's own policy forbids that it looks by itself."""
    end = time.monotonic() + SECONDS / 1000
    while not page.evaluate(script):
        assert time.monotonic() < end, script
        page.wait_for_timeout(50)


def fill(page, **values):
    page.evaluate("document.getElementById('more').open = true")
    for name, value in values.items():
        page.fill(f"[name={name}]", str(value))


def test_a_video_from_form_to_player(page):
    assert page.text_content("#app-name") == "infsh/wan2-1-i2v"
    page.set_input_files("[name=input_image]", str(ASSETS / "sample.png"))
    page.wait_for_selector(".drop img")
    fill(page, prompt='a "red" ball', size="64x64", num_frames=5, num_inference_steps=2, seed=5)
    page.click("#run")
    page.wait_for_selector("#task video", timeout=SECONDS)
    wait(page, "document.querySelector('#task video').readyState > 0")
    assert (
        page.evaluate("document.querySelector('#task video').videoWidth") == 80
    )  # the picture's aspect
    assert "completed" in page.text_content("#history li")
    page.click("#task button")  # run again
    wait(page, "document.querySelectorAll('#history li').length === 2")


def test_wrong_fields_are_marked(page):
    fill(page, num_frames=-3)
    page.click("#run")
    page.wait_for_selector(".field.wrong")
    wrong = page.eval_on_selector_all(
        ".field.wrong", "all => all.map(f => f.querySelector('[name]').name)"
    )
    assert set(wrong) == {"prompt", "input_image", "num_frames"}
    assert "prompt is required" in page.text_content("#message")


def test_a_running_task_is_shown_and_cancelled(page):
    page.set_input_files("[name=input_image]", str(ASSETS / "sample.png"))
    fill(page, prompt="long", **LONG)
    page.click("#run")
    page.wait_for_selector("#task progress", timeout=SECONDS)
    page.click("#task button")
    wait(page, "document.querySelector('#task strong').textContent.includes('cancelled')")


def test_snippets_hold_what_the_form_holds(page):
    fill(page, prompt='it\'s\n"quoted"', num_frames=9)
    call = page.text_content("#python").partition("client.run")[2].partition("\nprint")[0]
    values = {}
    exec(f"body = {call}", values)
    assert values["body"]["input"] == {"prompt": 'it\'s\n"quoted"', "num_frames": 9}
    assert "it'\\''s" in page.text_content("#curl")


def compare(page, **lists):
    """Give several values for parameters."""
    for name, text in lists.items():
        field = page.locator(".field", has=page.locator(f"[name={name}]"))
        field.locator(".several").click()
        page.fill(f"[data-several={name}]", text)


def test_several_values_become_a_table_of_players(page):
    page.set_input_files("[name=input_image]", str(ASSETS / "sample.png"))
    fill(page, prompt="a ball", size="64x64", num_frames=5, num_inference_steps=2)
    compare(page, seed="1, 2", shift="3, 5.5")
    assert page.text_content("#run") == "Run 4 combinations"
    page.click("#run")
    page.wait_for_selector("#task .grid", timeout=SECONDS)
    wait(page, "document.querySelectorAll('#task .grid video').length === 4")
    said = page.eval_on_selector_all("figcaption", "all => all.map(f => f.textContent.trim())")
    assert said == ["seed 1 shift 3", "seed 1 shift 5.5", "seed 2 shift 3", "seed 2 shift 5.5"]
    links = page.eval_on_selector_all(".grid video", "all => new Set(all.map(v => v.src)).size")
    assert links == 4
    page.click("text=As one video")
    wait(page, "document.querySelector('#task > div > video')?.readyState > 0")
    size = page.evaluate("document.querySelector('#task > div > video').videoWidth")
    assert size == 2 * page.evaluate("document.querySelector('.grid video').videoWidth")
    first = page.text_content("#history li")
    assert "4 combinations of seed x shift" in first and "completed" in first
    page.click("#task .row button")  # play together
    wait(page, "[...document.querySelectorAll('.grid video')].every(v => v.currentTime > 0)")


def test_a_grid_that_runs_is_cancelled(page):
    page.set_input_files("[name=input_image]", str(ASSETS / "sample.png"))
    fill(page, prompt="long", **LONG)
    compare(page, seed="1, 2")
    page.click("#run")
    page.wait_for_selector("#task .grid", timeout=SECONDS)
    wait(page, "document.querySelector('#workers')?.textContent.includes('busy')")
    page.click("#task .row button")
    wait(page, "document.querySelector('#task strong').textContent.includes('cancelled')")
    wait(page, "document.querySelector('#workers').textContent.includes('worker idle')")


def test_wrong_values_of_a_grid_are_marked(page):
    page.set_input_files("[name=input_image]", str(ASSETS / "sample.png"))
    fill(page, prompt="a")
    compare(page, seed="1, many")
    page.click("#run")
    page.wait_for_selector(".field.wrong")
    said = page.text_content(".field.wrong .problem")
    assert "many" in said and "(combination 2 of 2)" in said


def test_choices_are_picked_and_snippets_tell_the_grid(page):
    page.evaluate("document.getElementById('more').open = true")
    field = page.locator(".field", has=page.locator("[name=sample_solver]"))
    field.locator(".several").click()
    page.select_option("[data-several=sample_solver]", ["unipc", "dpm++"])
    field = page.locator(".field", has=page.locator("[name=cfg_star_switch]"))
    field.locator(".several").click()
    page.select_option("[data-several=cfg_star_switch]", ["true", "false"])
    call = page.text_content("#python").partition("client.grid")[2].partition("\nprint")[0]
    values = {}
    exec(f"body = {call}", values)
    grid = {"sample_solver": ["unipc", "dpm++"], "cfg_star_switch": [True, False]}
    assert values["body"]["grid"] == {name: grid[name] for name in values["body"]["grid"]}
    assert len(values["body"]["grid"]) == 2 and "/infsh/grids" in page.text_content("#curl")
    field.locator(".several").click()  # one value again
    assert page.text_content("#run") == "Run 2 combinations"


def test_both_apps_have_a_form(page):
    page.click("#apps button:nth-child(2)")
    page.wait_for_selector("[name=driving_video]")
    assert page.text_content("#app-name") == "infsh/wan-2-2-animate-v2v"
    options = page.eval_on_selector_all("[name=mode] option", "all => all.map(o => o.value)")
    assert options == ["animation", "replacement"]


def test_a_wrong_key_is_said(browser, server):
    page = browser.new_page()
    page.goto(server.base_url + "/")
    page.fill("#key", "wrong")
    page.press("#key", "Tab")
    # A locator: the page's own policy forbids scripts that are made of texts.
    page.locator("#message", has_text="key is wrong").wait_for()
    page.close()
