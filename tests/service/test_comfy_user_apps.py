"""A workflow in API format becomes an app with a schema, and a caller's values its inputs."""

import copy
import json

import pytest
from wan_local.nodes.service.user_apps import UserApps, fill_user_app, make_app
from wan_local.wan.errors import InputError, ValidationError
from wan_local.wan.params import validate

TEXTS = {"minimum": "", "maximum": "", "choices": "", "description": ""}


def node(kind, **given):
    return {"class_type": kind, "inputs": given}


def app_input(name, type="text", default="", **given):
    return node("WanLocalAppInput", name=name, type=type, default=default, **{**TEXTS, **given})


GRAPH = {
    "1": node("LoadImage", image="example.png"),
    "2": app_input("picture", "image", value=["1", 0]),
    "3": app_input("factor", "number", "2", minimum="0.1", maximum="4"),
    "4": node("WanLocalLanczosResize", frames=["2", 0], factor=["3", 0]),
    "5": app_input("mask", "image"),
    "6": node("Other", picture=["2", 0], mask=["5", 0]),
    "7": node("WanLocalAppOutput", name="result", filename_prefix="x", value=["4", 0]),
}


def test_the_schema_is_that_of_the_nodes():
    app = make_app("My Workflow (2)", GRAPH).app
    assert app.name == "my-workflow-2" and app.output == "result"
    assert {p.name: (p.kind, p.default, p.required) for p in app.params} == {
        "picture": ("file", None, False),
        "factor": ("number", 2.0, False),
        "mask": ("file", None, True),
    }
    with pytest.raises(ValidationError) as wrong:
        validate(app, {"factor": 9})
    assert [p.field for p in wrong.value.problems] == ["factor", "mask"]


def test_values_take_the_place_of_the_input_nodes():
    found = make_app("w", GRAPH)
    links = []

    def link(parameter, path):
        links.append((parameter, path))
        return f"infsh/{path}"

    values = validate(found.app, {"mask": "m.png", "factor": 3})
    filled = fill_user_app(found, values, link, "infsh/t")
    assert not [n for n in filled.graph.values() if n["class_type"] == "WanLocalAppInput"]
    assert filled.graph["4"]["inputs"] == {"frames": ["1", 0], "factor": 3.0}
    loader = filled.graph["6"]["inputs"]["mask"][0]
    assert filled.graph[loader]["inputs"] == {"image": "infsh/m.png"} and links == [
        ("mask", "m.png")
    ]
    assert filled.graph["7"]["inputs"]["filename_prefix"] == "infsh/t/result"
    assert filled.outputs == {"result": "7"}
    assert filled.origins["4", "factor"] == "factor"
    both = fill_user_app(found, {**values, "picture": "p.png"}, link, "infsh/t")
    source = both.graph["4"]["inputs"]["frames"][0]
    assert both.graph[source]["inputs"] == {"image": "infsh/p.png"}
    assert found.graph == GRAPH


def test_folders_are_read_again_when_a_file_changes(tmp_path):
    apps = UserApps(lambda: [tmp_path])
    assert apps.all() == {}
    (tmp_path / "sub").mkdir()
    path = tmp_path / "sub" / "Large.json"
    path.write_text(json.dumps(GRAPH))
    (tmp_path / "page.json").write_text(json.dumps({"nodes": [], "links": []}))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "plain.json").write_text(json.dumps({"1": node("LoadImage", image="x")}))
    first = apps.all()
    assert list(first) == ["large"]
    changed = copy.deepcopy(GRAPH)
    changed["3"]["inputs"]["default"] = "1.25"
    path.write_text(json.dumps(changed))
    second = apps.all()["large"]
    assert second.app["factor"].default == 1.25 and second.version != first["large"].version
    path.unlink()
    assert apps.all() == {}


def test_a_workflow_that_contradicts_itself_is_no_app(tmp_path, caplog):
    wrong = copy.deepcopy(GRAPH)
    wrong["3"]["inputs"]["default"] = "lots"
    with pytest.raises(InputError):
        make_app("w", wrong)
    (tmp_path / "w.json").write_text(json.dumps(wrong))
    assert UserApps(lambda: [tmp_path]).all() == {}
    assert "w.json is no app" in caplog.text and "'lots'" in caplog.text


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ("sub/a.png", True),
        ("../../secret.png", False),
        ("/etc/passwd", False),
        ("C:\\secret.png", False),
        ("..\\secret.png", False),
        ("a.png [output]", False),
        ("~/a.png", False),
    ],
)
def test_a_text_cannot_make_a_loader_leave_its_folder(value, fits):
    from wan_local.wan.service.problems import ApiError

    graph = {
        "1": app_input("name", "text"),
        "2": node("LoadImage", image=["1", 0]),
        "3": node("WanLocalAppOutput", name="result", filename_prefix="x", value=["2", 0]),
    }
    found = make_app("w", graph)
    if fits:
        filled = fill_user_app(found, {"name": value}, None, "p")
        assert filled.graph["2"]["inputs"]["image"] == value
        return
    with pytest.raises(ApiError) as refused:
        fill_user_app(found, {"name": value}, None, "p")
    assert refused.value.errors[0].field == "name"


def test_a_text_that_loads_nothing_may_say_anything():
    graph = {
        "1": app_input("words", "text"),
        "2": node("WanLocalPromptEncode", prompt=["1", 0]),
        "3": node("WanLocalAppOutput", name="result", filename_prefix="x", value=["2", 0]),
    }
    filled = fill_user_app(make_app("w", graph), {"words": "../ and [so on]"}, None, "p")
    assert filled.graph["2"]["inputs"]["prompt"] == "../ and [so on]"
