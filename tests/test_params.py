import json
from pathlib import Path

import pytest
from wan_local.wan.errors import ValidationError
from wan_local.wan.params import ANIMATE_APP, APPS, I2V_APP, App, Param, validate

CONTRACT = json.loads((Path(__file__).parent / "golden" / "apps.json").read_text("utf8"))
GIVEN = {"prompt": "a cat", "input_image": "cat.png"}


@pytest.mark.parametrize("app", CONTRACT)
def test_table_equals_the_contract_of_the_hosted_apps(app):
    ours = APPS[app]
    assert list(ours.names) == sorted(ours.names, key=list(CONTRACT[app]["input"]).index)
    assert set(ours.names) == set(CONTRACT[app]["input"])
    assert ours.output == CONTRACT[app]["output"]
    for name, fact in CONTRACT[app]["input"].items():
        param = ours[name]
        assert param.kind == fact["type"], name
        assert param.required == fact.get("required", False), name
        assert param.default == fact.get("default"), name
        assert list(param.options) == fact.get("options", []), name
        for ours_value, key in ((param.minimum, "min"), (param.maximum, "max")):
            assert key not in fact or ours_value == fact[key], name


def test_every_parameter_says_what_it_does():
    assert all(p.description.endswith(".") for app in APPS.values() for p in app.params)


def test_defaults_pass_their_own_rules():
    for app in APPS.values():
        for param in app.params:
            if param.default is None:
                continue
            assert not param.options or param.default in param.options
            assert param.check is None or param.check(param.default) is None


def test_missing_values_get_defaults_and_text_becomes_numbers():
    values = validate(I2V_APP, {**GIVEN, "num_frames": "17", "shift": "3", "seed": None})
    assert values["num_frames"] == 17 and values["shift"] == 3.0
    assert values["seed"] == -1 and values["fps"] == 16 and values["sample_solver"] == "unipc"


def test_all_wrong_fields_are_reported_at_once_each_with_its_fix():
    wrong = {
        "prompt": "  ",
        "size": "big",
        "fps": 0,
        "num_inference_steps": 0,
        "shift": 0,
        "sample_solver": "unipcc",
        "num_frames": "many",
        "guidance_scale": float("nan"),
        "promt": "a dog",
        "temporal_upsampling": "rife3",
    }
    with pytest.raises(ValidationError) as error:
        validate(I2V_APP, wrong)
    problems = {p.field: p for p in error.value.problems}
    assert set(problems) == {*wrong, "input_image"}
    assert all(p.fix for p in problems.values())
    text = str(error.value)
    assert all(name in text for name in wrong)
    assert "Did you mean prompt?" in problems["promt"].fix
    assert "Did you mean unipc?" in problems["sample_solver"].fix
    assert "1 to 120" in problems["fps"].fix


@pytest.mark.parametrize("value", [True, "1.5", [1], {}, "x"])
def test_a_whole_number_is_not_taken_from_something_else(value):
    with pytest.raises(ValidationError):
        validate(I2V_APP, {**GIVEN, "num_frames": value})


def test_a_parameter_to_come_is_refused_and_has_no_value():
    app = App(
        "toy", "", (Param("now", "string", "."), Param("later", "string", ".", works=False)), ""
    )
    with pytest.raises(ValidationError, match="later: is not supported by this version"):
        validate(app, {"later": "x"})
    assert validate(app, {"now": "x"}) == {"now": "x"}


TOY = App(
    "toy",
    "",
    (Param("on", "boolean", "."), Param("kind", "string", ".", options=("", "a"))),
    "video",
)


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("No", False), ("1", True), (False, False), ("off", False)]
)
def test_booleans_are_read_from_words(text, value):
    assert validate(TOY, {"on": text})["on"] is value


def test_an_empty_choice_is_a_choice():
    assert validate(TOY, {"kind": ""})["kind"] == ""
    with pytest.raises(ValidationError):
        validate(TOY, {"kind": "b"})


@pytest.mark.parametrize(
    ("value", "advice"), [(80, "77 or 81"), (78, "77 or 81"), (120, "117 or 121")]
)
def test_clip_len_off_4n_plus_1_names_its_neighbours(value, advice):
    assert advice in ANIMATE_APP["clip_len"].check(value)


def test_rules_between_parameters_of_animate():
    values = {p.name: p.default for p in ANIMATE_APP.params}
    assert ANIMATE_APP.rules(values) == []
    fields = [p.field for p in ANIMATE_APP.rules({**values, "use_flux": True})]
    assert fields == ["use_flux"]
    crowded = {**values, "clip_len": 5, "refert_num": 5}
    assert [p.field for p in ANIMATE_APP.rules(crowded)] == ["refert_num"]
