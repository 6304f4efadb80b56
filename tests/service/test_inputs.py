import asyncio
import base64
import dataclasses
import io
import struct

import pytest
from file_records import Records, on_disk, settings, stream
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image
from wan_local.wan.params import ANIMATE_APP, I2V_APP, validate
from wan_local.wan.service.catalog import CatalogApp, catalog_app
from wan_local.wan.service.files import FileStore
from wan_local.wan.service.guard import Guard
from wan_local.wan.service.inputs import MAX_TEXT, Inputs, expect_kind
from wan_local.wan.service.links import Links
from wan_local.wan.service.problems import ApiError
from wan_local.wan.service.records import File

ORIGIN = "http://127.0.0.1:8188"
WEIGHTS = struct.pack("<Q", 8) + b'{"a":{}}'


I2V, ANIMATE = catalog_app(I2V_APP), catalog_app(ANIMATE_APP)


@dataclasses.dataclass(frozen=True)
class SoundApp(CatalogApp):
    """An app whose schema says what its file must be."""

    @property
    def input_schema(self):
        return {"properties": {"prompt": {}, "input_image": {"contentMediaType": "audio/*"}}}


def png(width=8):
    buffer = io.BytesIO()
    Image.new("RGB", (width, 6)).save(buffer, "PNG")
    return buffer.getvalue()


class Desk:
    """Inputs with the real parts around them."""

    def __init__(self, folder, records, **changes):
        limits = settings(folder, **changes)
        self.records = records
        self.files = FileStore(folder, self.records, limits)
        self.links = Links(limits, b"secret")

        async def lookup(host, port):
            return {"public.test": ["8.8.8.8"], "inner.test": ["10.0.0.1"]}[host]

        guard = Guard(dataclasses.replace(limits, listens_on_loopback=False), lookup)
        self.inputs = Inputs(self.files, self.records, self.links, guard)

    def upload(self, data, filename="x.png"):
        return asyncio.run(self.files.add_bytes(data, filename))

    def url(self, file):
        return self.links.content_url(ORIGIN, file)

    def read(self, raw, app=I2V):
        return asyncio.run(self.inputs.read(app, raw, origin=ORIGIN, key_id="key_1"))

    def value(self, name, value, app=I2V):
        rest = {"prompt": "a cat", "input_image": self.url(self.upload(png()))}
        return self.read({**rest, name: value}, app)[0][name]

    def refusal(self, raw, app=I2V):
        with pytest.raises(ApiError) as refusal:
            self.read(raw, app)
        assert refusal.value.status == 422
        return refusal.value

    def wrong(self, name, value):
        """The one message about a field."""
        rest = {"prompt": "a cat", "input_image": self.url(self.upload(png()))}
        error = self.refusal({**rest, name: value})
        assert [e.field for e in error.errors] == [name]
        assert len(error.detail) < 500
        return error.errors[0].message


@pytest.fixture
def desk(tmp_path):
    with Records.opened(tmp_path) as records:
        yield Desk(tmp_path / "files", records)


@pytest.mark.parametrize("raw", [{}, None, {"prompt": None, "input_image": ""}])
def test_the_pages_own_snippet_is_told_what_is_missing(desk, raw):
    error = desk.refusal(raw)
    assert error.detail == "prompt is required; input_image is required"
    assert [e.as_json() for e in error.errors] == [
        {"field": name, "code": "required", "message": f"{name} is required"}
        for name in ("prompt", "input_image")
    ]
    assert [e.field for e in desk.refusal({}, ANIMATE).errors] == [
        "driving_video",
        "reference_image",
    ]


@pytest.mark.parametrize("raw", [[], "x", 5, True])
def test_an_input_must_be_an_object(desk, raw):
    assert desk.refusal(raw).errors[0].field == "input"


def test_all_wrong_fields_come_at_once_in_the_pages_order(desk):
    text = desk.upload(b"no picture", "notes.txt")
    error = desk.refusal(
        {
            "fps": 0,
            "size": "huge",
            "seed": 10**400,
            "shift": float("nan"),
            "num_frames": [1],
            "guidance_scale": 10**400,
            "enable_RIFLEx": "maybe",
            "sample_solver": "euler",
            "end_frame": "/etc/passwd",
            "input_image": desk.url(text),
            "tea_cache": {},
            "negative_prompt": 5,
        }
    )
    codes = {e.field: e.code for e in error.errors}
    assert list(codes) == [n for n in I2V_APP.names if n in codes]
    assert codes.pop("prompt") == "required"
    assert codes == dict.fromkeys(codes, "invalid") and len(codes) == 12
    messages = {e.field: e.message for e in error.errors}
    assert messages["fps"] == "fps is 0. Use 1 to 120."
    assert "no known kind" in messages["input_image"]
    assert "never read" in messages["end_frame"]


def test_a_right_input_comes_back_complete(desk):
    image = desk.upload(png())
    values, warnings = desk.read({"prompt": "a cat", "input_image": desk.url(image), "fps": "24"})
    assert warnings == []
    assert list(values) == list(validate(I2V_APP, {"prompt": "x", "input_image": "y"}))
    assert (values["prompt"], values["fps"], values["end_frame"]) == ("a cat", 24, None)
    assert values["input_image"] == {"$file": image.id}


def test_rules_between_fields_are_read_like_any_other(desk):
    raw = {"prompt": "x", "input_image": desk.upload(png()).id}
    raw |= {"end_frame": raw["input_image"], "num_frames": 2}
    assert desk.refusal(raw).detail.startswith("num_frames: 2 leaves no room")


def test_unknown_names_are_ignored_with_a_warning(desk):
    raw = {"prompt": "x", "input_image": desk.upload(png()).id}
    values, warnings = desk.read({**raw, "image": "/path/x.png", "promt": 1, "y" * 5000: 2})
    assert "image" not in values
    assert [w["code"] for w in warnings] == ["unknown_field"] * 3
    assert {w["level"] for w in warnings} == {"warning"}
    assert "'image' is not a parameter" in warnings[0]["message"]
    assert warnings[1]["message"].endswith("Did you mean prompt?")
    assert len(warnings[2]["message"]) < 300
    _, warnings = desk.read({**raw, **{f"x{i}": i for i in range(1000)}})
    assert len(warnings) == 21 and "980 more" in warnings[-1]["message"]


def test_a_file_can_be_given_in_every_form_that_the_sdk_sends(desk):
    image = desk.upload(png())
    url = desk.url(image)
    for value in (
        url,
        f" {url}\n",
        url.replace("127.0.0.1:8188", "other-name.lan"),
        image.id,
        {"uri": url},
        {"uri": url, "path": "", "content_type": "text/html", "size": -5, "filename": "../x"},
        {"path": url},
        {"uri": "", "path": url},
        {"uri": None, "path": image.id},
    ):
        assert desk.value("input_image", value) == {"$file": image.id}, value


def test_an_address_elsewhere_is_fetched_later(desk):
    url = "https://public.test/cat.png?x=1"
    assert desk.value("input_image", url) == {"$url": url}
    assert desk.value("input_image", {"uri": url}) == {"$url": url}


@pytest.mark.parametrize(
    "value",
    [
        "http://inner.test/cat.png",
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.1:22/",
        "http://[::ffff:10.0.0.1]/",
        "https://u:p@public.test/x",
        "HTTP://127.0.0.1/",
    ],
)
def test_addresses_in_forbidden_networks_name_the_field(desk, value):
    assert desk.wrong("input_image", value).startswith("input_image: ")


@pytest.mark.parametrize(
    "value",
    [
        "/etc/passwd",
        "C:\\x.png",
        "cat.png",
        "../../x.png",
        "file:///etc/passwd",
        "ftp://public.test/x",
        {"path": "/etc/passwd"},
        {"uri": "file:///etc/passwd"},
        "file_0123",
        "x" * 100_000,
        "\0",
        "\ud800",
    ],
)
def test_paths_on_the_server_are_never_read(desk, value):
    assert "never read" in desk.wrong("input_image", value)


@pytest.mark.parametrize(
    "value",
    [5, True, [], ["x"], {}, {"uri": 5}, {"url": "x"}, {"$file": "file_1"}, {"uri": {"uri": "x"}}],
)
def test_other_types_are_no_files(desk, value):
    assert "is no file" in desk.wrong("input_image", value)


def test_internal_marks_cannot_come_from_outside(desk):
    for mark in ({"$file": "file_1"}, {"$url": "http://169.254.169.254"}, {"$data": "prompt"}):
        for name in ("prompt", "lora_file", "size", "end_frame", "seed"):
            desk.wrong(name, mark)


def test_files_that_are_gone_or_still_to_come(desk):
    waiting = asyncio.run(
        desk.files.declare(filename="a.png", content_type="image/png", size=1, key_id="")
    )
    assert "not uploaded yet" in desk.wrong("input_image", desk.url(waiting))
    gone = File("a.png", "image/png")
    assert "no such file" in desk.wrong("input_image", desk.url(gone))
    assert "no such file" in desk.wrong("input_image", gone.id)
    assert "no such file" in desk.wrong("input_image", ORIGIN + "/view?filename=secret.png")


def test_kinds_are_checked_by_the_bytes(desk):
    sound = desk.upload(b"fLaC" + b"\0" * 60, "cat.png")
    desk.wrong("input_image", sound.id)
    picture = desk.upload(png(), "clip.mp4")
    video = dataclasses.replace(picture, content_type="video/mp4", id=File("", "").id)
    asyncio.run(desk.records.add_file(video))
    assert "video/mp4" in desk.wrong("end_frame", video.id)
    values, _ = desk.read({"driving_video": video.id, "reference_image": picture.id}, ANIMATE)
    assert values["driving_video"] == {"$file": video.id}
    assert desk.refusal({"driving_video": picture.id, "reference_image": video.id}, ANIMATE)
    desk.read({"driving_video": picture.id, "reference_image": picture.id}, ANIMATE)
    other = SoundApp(I2V_APP, "v1")
    raw = {"prompt": "x", "input_image": picture.id}
    assert desk.refusal(raw, other).detail.startswith("input_image must be an audio file")


def test_a_fetched_file_is_judged_by_the_same_rule(desk):
    expect_kind(I2V, "input_image", File("x", "image/png"))
    with pytest.raises(ApiError, match="input_image must be an image") as refusal:
        expect_kind(I2V, "input_image", File("x.png", "application/octet-stream"))
    assert refusal.value.errors[0].field == "input_image"


@pytest.mark.parametrize(
    "form", ["data:image/png;base64,{}", "data:;BASE64,{}", "data:text/html;base64,{}"]
)
def test_data_uris_are_kept_as_files(desk, form):
    found = desk.value("input_image", form.format(base64.b64encode(png()).decode()))
    file = desk.records.kept[found["$file"]]
    assert (file.content_type, file.key_id, file.filename) == ("image/png", "key_1", "")
    assert desk.files.path(file).read_bytes() == png()


def test_data_uris_may_be_percent_encoded_and_wrapped(desk):
    encoded = base64.b64encode(png()).decode().replace("+", "%2B")
    assert desk.value("input_image", f"data:image/png;base64,{encoded[:40]}\n{encoded[40:]}")
    plain = "data:image/png," + "".join(f"%{byte:02x}" for byte in png())
    assert desk.value("input_image", {"uri": plain})


@pytest.mark.parametrize(
    "uri",
    ["data:", "data:,", "data:image/png;base64,", "data:image/png;base64,%", "data:;base64,é"],
)
def test_damaged_data_uris_are_refused(desk, uri):
    assert "data URI" in desk.wrong("input_image", uri)


def test_a_refused_input_keeps_nothing(desk, tmp_path):
    good = "data:;base64," + base64.b64encode(png()).decode()
    desk.refusal({"prompt": "x", "input_image": good, "fps": 0})
    desk.refusal({"prompt": "x", "input_image": good, "end_frame": "data:;base64,AAAA"})
    assert on_disk(tmp_path) == []
    small = Desk(tmp_path / "small", desk.records, max_pixels=100)
    large = "data:;base64," + base64.b64encode(png(50)).decode()
    with pytest.raises(ApiError) as refusal:
        small.read({"prompt": "x", "input_image": good, "end_frame": large})
    assert refusal.value.status == 413 and refusal.value.errors[0].field == "end_frame"
    assert on_disk(tmp_path) == [] and small.records.kept == {}


def test_a_prompt_that_the_sdk_took_for_base64_is_recovered(desk):
    for prompt in ("supercoolcatjump", "abcdefghijklmno=", "a/b+cdefghijklmn"):
        upload = asyncio.run(
            desk.files.declare(
                filename=None, content_type="application/octet-stream", size=None, key_id=""
            )
        )
        upload = asyncio.run(desk.files.receive(upload, stream(base64.b64decode(prompt))))
        assert (
            desk.value("prompt", desk.url(upload))
            == base64.b64encode(base64.b64decode(prompt)).decode()
        )
    assert desk.value("prompt", desk.url(upload)) == prompt
    assert desk.value("negative_prompt", desk.url(upload)) == prompt
    assert desk.value("lora_file", desk.url(upload)) == prompt


def test_other_addresses_in_a_prompt_stay_what_they_are(desk):
    named = desk.upload(b"some text", "notes.txt")
    picture = desk.upload(png(), "")
    for text in (
        desk.url(named),
        desk.url(picture),
        "https://public.test/files/file_" + "0" * 32 + "/content/x",
        "see http://169.254.169.254/",
        "/etc/passwd",
    ):
        assert desk.value("prompt", text) == text


@pytest.mark.parametrize(
    "text",
    [
        "x" * 10_000,
        "猫" * MAX_TEXT,
        "a \U0001f408\u200d\u2b1b cat\u2028\u0085\x0b\x0c\x1b[31m\r\n\t\x7f",
        "   spaces   ",
        "'; DROP TABLE tasks; --",
        "{}",
    ],
)
def test_prompts_of_all_kinds_are_taken_as_they_are(desk, text):
    assert desk.value("prompt", text) == text


@pytest.mark.parametrize("text", ["x" * (MAX_TEXT + 1), "a\0b", "a\ud83d", "", "  "])
def test_texts_that_nothing_can_hold_are_refused(desk, text):
    assert desk.wrong("prompt", text).startswith("prompt ")


def test_a_lora_is_a_name_an_upload_or_a_url(desk):
    weights = desk.upload(WEIGHTS, "style.safetensors")
    assert desk.value("lora_file", desk.url(weights)) == {"$file": weights.id}
    for text in ("style", "sub/style.safetensors", "https://public.test/s.safetensors", ""):
        assert desk.value("lora_file", text) == text
    assert "no safetensors" in desk.wrong("lora_file", desk.url(desk.upload(png())))
    for path in (
        "/x/s.safetensors",
        "../s",
        "~/s",
        "C:\\s",
        "a/../../s",
        "\\\\h\\s",
        "file:///s",
        "1://../s",
    ):
        assert "never read" in desk.wrong("lora_file", path), path


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*I2V_APP.names, "other"]), JSON, max_size=6))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_any_json_is_refused_or_read(desk, raw):
    try:
        values, _ = desk.read(raw)
    except ApiError as error:
        assert error.status == 422 and error.errors and error.detail.strip()
        assert {e.field for e in error.errors} <= set(I2V_APP.names)
    else:
        assert values["prompt"]
