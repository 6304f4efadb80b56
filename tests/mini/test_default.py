"""The miniature is what runs where nothing else is named, with the defaults it was trained for."""

from dataclasses import replace

import pytest
from mini_runs import model
from shipped_graphs import api
from wan_local.nodes import models as node_models
from wan_local.nodes.service.apps import AppGraphs
from wan_local.wan.cli import _parser
from wan_local.wan.miniatures import (
    MINI,
    TINY,
    Miniature,
    adapted,
    find_miniature,
    read_limits,
)
from wan_local.wan.params import ANIMATE_APP, APPS, I2V_APP, validate
from wan_local.wan.payloads import MINIATURE_NOTICE, Variant
from wan_local.wan.service.catalog import catalog_app

SMALL = {"resolution_width": 64, "resolution_height": 64}
FILES = {"driving_video": "a.mp4", "reference_image": "a.png"}


def test_commands_name_it_when_nobody_does():
    for command in (["run", "wan2-1-i2v"], ["serve"], ["worker"]):
        assert _parser().parse_args(command).models == MINI


@pytest.mark.parametrize("app", APPS.values(), ids=lambda app: app.name)
def test_defaults_are_those_it_was_trained_for(app):
    small = adapted(MINI, app)
    changed = {p.name for p, own in zip(app.params, small.params, strict=True) if p != own}
    assert changed and all(small[name].check is app[name].check for name in app.names)
    limits = read_limits(Miniature(MINI).app_files(app.name).transformer.parent)
    assert {n: small[n].default for n in limits.defaults} == limits.defaults
    assert set(limits.defaults) | set(limits.minimums) == changed
    schema = catalog_app(small).input_schema["properties"]
    assert all(schema[name]["default"] == value for name, value in limits.defaults.items())


@pytest.mark.parametrize("app", APPS.values(), ids=lambda app: app.name)
@pytest.mark.parametrize("name", [MINI, TINY])
def test_ranges_are_widened_downward_and_never_narrowed(app, name):
    for own, page in zip(adapted(name, app).params, app.params, strict=True):
        assert own.maximum == page.maximum and own.options == page.options
        assert (own.minimum is None) == (page.minimum is None)
        assert page.minimum is None or own.minimum <= page.minimum


def test_animation_may_be_as_small_as_64_pixels():
    validate(adapted(MINI, ANIMATE_APP), FILES | SMALL)
    with pytest.raises(Exception, match="512"):
        validate(ANIMATE_APP, FILES | SMALL)


@pytest.mark.parametrize("app", APPS.values(), ids=lambda app: app.name)
def test_its_pages_say_what_it_is(app):
    assert catalog_app(adapted(MINI, app)).as_json()["description"].endswith(MINIATURE_NOTICE)
    in_comfyui = {own.name: own for own in AppGraphs(Miniature(MINI)).own()}
    assert in_comfyui[app.name].summary.endswith(MINIATURE_NOTICE)
    assert adapted("/a/folder", app) is app and AppGraphs().own()[0].summary == I2V_APP.summary


def test_names():
    assert find_miniature(MINI).name == MINI and find_miniature("/models") is None
    assert model(Variant.I2V).is_miniature and model(Variant.ANIMATE).is_miniature


def test_another_card_is_another_page():
    """The version that pages carry changes with the defaults."""
    small = adapted(MINI, I2V_APP)
    other = small.adapted({"num_frames": 5}, {}, small.summary)
    assert catalog_app(small).version_id != catalog_app(other).version_id
    assert catalog_app(small).version_id == catalog_app(replace(small)).version_id


@pytest.mark.parametrize(
    ("graph", "variant"),
    [
        ("wan_i2v_mini", Variant.I2V),
        ("wan_animation_mini", Variant.ANIMATE),
        ("wan_replacement_mini", Variant.ANIMATE),
    ],
)
def test_the_small_twins_of_the_graphs_load_it(graph, variant):
    loader = next(n for n in api(graph).values() if n["class_type"] == "WanLocalModelLoader")
    name = loader["inputs"]["model"]
    assert name == node_models.miniature_option(MINI, variant)
    found = node_models.find_model_files(name, *["auto"] * 3)
    assert found == Miniature(MINI).files(variant)


def test_a_run_says_what_it_is_last():
    """Which in ComfyUI is the text that stays under the sampler."""
    from mini_runs import PLAIN, picture, scenes
    from wan_local.wan.encode.condition import condition_on_image
    from wan_local.wan.encode.prompt import encode_prompts
    from wan_local.wan.progress import Silent
    from wan_local.wan.sample.video import sample_video

    class Notes(Silent):
        """Keeps what is noted."""

        def __init__(self):
            self.said = []

        def note(self, text):
            self.said.append(text)

    notes, scene = Notes(), scenes(1)[0]
    condition = condition_on_image(model(), picture(scene), 64, 64, 5, notes)
    text = encode_prompts(model(), scene.caption, "", notes)
    sample_video(model(), text, condition, replace(PLAIN, steps=1), notes)
    assert notes.said[-1].endswith(MINIATURE_NOTICE)
