"""Sessions: which file is what, where it runs, and what happens when it cannot."""

import logging
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from wan_local.wan.errors import MissingFileError, ModelError, UnavailableError
from wan_local.wan.preprocess.pose.onnx import ModelKind, OnnxModel, OnnxRuntime, recognise
from wan_local.wan.preprocess.pose.onnx_file import data_files
from wan_local.wan.progress import Silent
from wan_local.wan.tiny.onnx import write_onnx

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
POSE_SHAPES = (["n", 3, 256, 192], ["n", 133, 64, 48])


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    write_onnx(folder)
    return folder


class StubSession:
    """onnxruntime's session as far as it is used; what it does is set on the class."""

    shapes = POSE_SHAPES
    dtype = "tensor(float)"
    fails_on: tuple[str, ...] = ()
    opens_on: tuple[str, ...] = (CPU, CUDA)
    silently_cpu = False
    largest_batch = 99
    opened: list
    calls: list

    def __init__(self, path, options, providers):
        names = [p if isinstance(p, str) else p[0] for p in providers]
        type(self).opened.append(providers)
        if names[0] not in self.opens_on:
            raise RuntimeError(f"cannot open on {names[0]}\nlong trace")
        self.names = [CPU] if self.silently_cpu else names

    def get_providers(self):
        return self.names

    def get_inputs(self):
        return [SimpleNamespace(name="images", shape=self.shapes[0], type=self.dtype)]

    def get_outputs(self):
        return [SimpleNamespace(name="output", shape=self.shapes[1], type=self.dtype)]

    def run(self, names, feed, options):
        batch = feed["images"]
        type(self).calls.append((self.names[0], batch.shape, batch.dtype))
        if self.names[0] in self.fails_on or len(batch) > self.largest_batch:
            raise RuntimeError("no kernel image is available\nlong trace")
        return [np.full((len(batch), 133, 64, 48), len(batch), np.float32)]


@pytest.fixture
def stub(monkeypatch):
    """A stand-in for the onnxruntime package, with CUDA; gives the session's class."""
    session = type("Session", (StubSession,), {"opened": [], "calls": []})
    library = SimpleNamespace(
        InferenceSession=session,
        SessionOptions=SimpleNamespace,
        RunOptions=SimpleNamespace,
        get_available_providers=lambda: [CUDA, CPU],
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", library)
    session.library = library
    return session


def batch(count=8):
    return np.zeros((count, 3, 256, 192), np.float32)


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def open_pose(models, device="auto", runtime=None):
    return OnnxModel(
        models / "vitpose-l-wholebody.onnx", ModelKind.POSE, runtime or OnnxRuntime(device)
    )


# ---- which file is what


@pytest.mark.parametrize(
    "inputs, output, kind",
    [
        ([(1, 3, 640, 640)], (1, 300, 6), ModelKind.DETECTOR),
        ([("batch", 3, "height", "width")], ("batch", 300, 6), ModelKind.DETECTOR),
        ([(1, 3, 640, 640)], (1, 84, 8400), ModelKind.DETECTOR),
        ([("n", 3, 256, 192)], ("n", 133, 64, 48), ModelKind.POSE),
        ([(None, 3, 256, 192)], (None, 133, None, None), ModelKind.POSE),
        ([(1, 3, 256, 192)], (1, 17, 64, 48), None),  # body only
        ([(1, 3, 384, 288)], (1, 133, 576), None),  # DWPose
        ([(1, 3, 640, 640)], (1, 8400, 85), None),  # YOLOX
        ([(1, 3, 1024, 1024)], (1, 256, 64, 64), None),  # SAM2's encoder
        ([(1, 3, 256, 192), (1,)], (1, 133, 64, 48), None),
    ],
)
def test_models_are_recognised_by_their_shapes(inputs, output, kind):
    assert recognise(inputs, output) is kind


def test_tiny_files_have_the_real_layouts(models):
    import onnxruntime

    def shapes(name):
        session = onnxruntime.InferenceSession(str(models / name), providers=[CPU])
        return session.get_inputs()[0].shape, session.get_outputs()[0].shape

    assert shapes("yolov10m.onnx") == ([1, 3, 640, 640], [1, 300, 6])
    assert shapes("yolov8m.onnx") == (["batch", 3, 640, 640], ["batch", 84, 8400])
    pose = (["batch", 3, 256, 192], ["batch", 133, 64, 48])
    assert shapes("vitpose-l-wholebody.onnx") == pose
    assert shapes("vitpose_h_wholebody_model.onnx") == pose


def test_detector_where_a_pose_model_belongs_is_named_with_both(models):
    with pytest.raises(ModelError) as caught:
        OnnxModel(models / "yolov10m.onnx", ModelKind.POSE, OnnxRuntime("cpu"))
    assert str(caught.value).splitlines()[0] == (
        "yolov10m.onnx is a person detector (1x3x640x640 -> 1x300x6), where a whole-body pose "
        "model belongs."
    )
    assert "?x3x256x192 -> ?x133x64x48" in caught.value.why
    with pytest.raises(ModelError, match=r"is a whole-body pose model .* where a person detector"):
        OnnxModel(models / "vitpose-l-wholebody.onnx", ModelKind.DETECTOR, OnnxRuntime("cpu"))


def test_missing_data_file_is_named(models, tmp_path):
    model = tmp_path / "vitpose_h_wholebody_model.onnx"
    model.write_bytes((models / model.name).read_bytes())
    assert data_files(model) == ("vitpose_h_wholebody_data.bin",)
    with pytest.raises(MissingFileError, match="keeps its weights in 'vitpose_h_wholebody_data"):
        OnnxModel(model, ModelKind.POSE, OnnxRuntime("cpu"))
    data = tmp_path / "vitpose_h_wholebody_data.bin"
    data.write_bytes((models / data.name).read_bytes())
    OnnxModel(model, ModelKind.POSE, OnnxRuntime("cpu"))
    assert data_files(models / "vitpose-l-wholebody.onnx") == ()


def test_missing_file_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"yolov10m\.onnx"):
        OnnxModel(tmp_path / "yolov10m.onnx", ModelKind.DETECTOR, OnnxRuntime("cpu"))


@pytest.mark.parametrize(
    "contents",
    [b"", b"version https://git-lfs.github.com/spec/v1\n", bytes(range(256)) * 9, b"\0" * 900],
    ids=["empty", "lfs pointer", "noise", "zeros"],
)
def test_what_is_no_onnx_model_is_rejected(tmp_path, contents):
    (tmp_path / "model.onnx").write_bytes(contents)
    with pytest.raises(ModelError, match="is no ONNX model"):
        OnnxModel(tmp_path / "model.onnx", ModelKind.POSE, OnnxRuntime("cpu"))


@pytest.mark.parametrize("place", [b"../", b"a/../../", b"/etc/", b"C:\\", b"..\\"])
def test_weights_outside_of_the_folder_are_refused(models, tmp_path, place):
    """A model must not make the runtime read other files of the user's."""
    name = b"vitpose_h_wholebody_data.bin"
    content = (models / "vitpose_h_wholebody_model.onnx").read_bytes()
    other = place + name[len(place) :]  # as long as it was, so that no length in the file changes
    (tmp_path / "evil.onnx").write_bytes(content.replace(name, other))
    with pytest.raises(ModelError, match="outside of its folder"):
        OnnxModel(tmp_path / "evil.onnx", ModelKind.POSE)


def test_data_file_or_half_a_model_is_rejected(models, tmp_path):
    with pytest.raises(ModelError, match=r"'vitpose_h_wholebody_data\.bin' is no ONNX model"):
        OnnxModel(models / "vitpose_h_wholebody_data.bin", ModelKind.POSE, OnnxRuntime("cpu"))
    whole = (models / "vitpose-l-wholebody.onnx").read_bytes()
    (tmp_path / "half.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"'half\.onnx' is no ONNX model"):
        OnnxModel(tmp_path / "half.onnx", ModelKind.POSE, OnnxRuntime("cpu"))


def test_model_that_onnxruntime_rejects_is_an_error(models, stub):
    stub.opens_on = ()
    with pytest.raises(ModelError, match=r"cannot be opened \(cannot open on CPU"):
        open_pose(models)


def test_folder_holds_end2end(models, tmp_path):
    (tmp_path / "end2end.onnx").write_bytes((models / "yolov10m.onnx").read_bytes())
    assert OnnxModel(tmp_path, ModelKind.DETECTOR, OnnxRuntime("cpu")).name == "end2end.onnx"


def test_missing_onnxruntime_tells_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UnavailableError) as caught:
        OnnxRuntime()
    assert f"{sys.executable} -m pip install onnxruntime " in caught.value.fix


# ---- where it runs


def test_best_provider_is_asked_for_and_read_back(models, stub, caplog):
    model = open_pose(models)
    assert stub.opened == [[CUDA, CPU]]
    assert model.providers == (CUDA, CPU)
    assert model.summary == "vitpose-l-wholebody.onnx on CUDA"
    assert warnings(caplog) == []


def test_device_number_is_passed_on(models, stub):
    open_pose(models, "cuda:1")
    assert stub.opened == [[(CUDA, {"device_id": 1}), CPU]]


def test_cpu_is_used_where_it_is_asked_for(models, stub, caplog):
    assert open_pose(models, "cpu").providers == (CPU,)
    assert stub.opened == [[CPU]] and warnings(caplog) == []


def test_silent_fallback_is_reported(models, stub, caplog):
    stub.silently_cpu = True
    model = open_pose(models)
    assert model.providers == (CPU,)
    assert model.summary == "vitpose-l-wholebody.onnx on CPU (CUDA was asked for)"
    assert len(warnings(caplog)) == 1
    assert "CUDAExecutionProvider was asked for" in warnings(caplog)[0]


def test_cuda_without_such_a_build_is_reported_once(models, stub, caplog):
    stub.library.get_available_providers = lambda: [CPU]
    runtime = OnnxRuntime("cuda")
    open_pose(models, runtime=runtime)
    open_pose(models, runtime=runtime)
    assert stub.opened == [[CPU], [CPU]]
    assert len(warnings(caplog)) == 1 and "onnxruntime-gpu" in warnings(caplog)[0]


def test_auto_without_a_gpu_is_no_warning(models, stub, caplog):
    stub.library.get_available_providers = lambda: ["AzureExecutionProvider", CPU]
    assert open_pose(models).providers == (CPU,)
    assert warnings(caplog) == []


def test_failing_to_open_on_cuda_falls_back(models, stub, caplog):
    stub.opens_on = (CPU,)
    assert open_pose(models).providers == (CPU,)
    assert stub.opened == [[CUDA, CPU], [CPU]]
    assert len(warnings(caplog)) == 1


def test_onnxruntime_cuda_kernels_missing_retries_once_on_cpu(models, stub, caplog):
    stub.fails_on = (CUDA,)
    model = open_pose(models)
    assert model.run(batch()).shape == (8, 133, 64, 48)
    assert model.providers == (CPU,)
    assert len(warnings(caplog)) == 1
    assert "no kernel image is available" in warnings(caplog)[0]
    assert "long trace" not in warnings(caplog)[0]
    before = len(stub.calls)
    model.run(batch())
    assert stub.calls[before:] == [(CPU, (8, 3, 256, 192), np.float32)]
    assert len(stub.opened) == 2 and len(warnings(caplog)) == 1


def test_two_models_warn_once_together(models, stub, caplog):
    stub.silently_cpu = True
    runtime = OnnxRuntime()
    open_pose(models, runtime=runtime)
    open_pose(models, runtime=runtime)
    assert len(warnings(caplog)) == 1


def test_failure_on_the_cpu_is_an_error_without_a_trace(models, stub):
    stub.fails_on = (CPU, CUDA)
    model = open_pose(models)
    with pytest.raises(ModelError, match="fails on the CPU") as caught:
        model.run(batch())
    assert "long trace" not in str(caught.value)


# ---- batches


def test_whole_batch_goes_in_one_call(models, stub):
    assert open_pose(models).run(batch(8)).shape == (8, 133, 64, 48)
    assert [shape for _, shape, _ in stub.calls] == [(8, 3, 256, 192)]


def test_fixed_batch_of_the_file_is_kept(models, stub):
    stub.shapes = ([3, 3, 256, 192], [3, 133, 64, 48])
    assert open_pose(models).run(batch(7)).shape == (7, 133, 64, 48)
    assert [shape[0] for _, shape, _ in stub.calls] == [3, 3, 3]


def test_file_that_claims_any_batch_but_takes_one_is_understood(models, stub, caplog):
    stub.largest_batch = 1
    model = open_pose(models)
    assert model.run(batch(3)).shape == (3, 133, 64, 48)
    assert model.providers[0] == CUDA and warnings(caplog) == []
    stub.calls.clear()
    model.run(batch(2))
    assert [shape[0] for _, shape, _ in stub.calls] == [1, 1]


def test_half_precision_file_is_fed_half_precision(models, stub):
    stub.dtype = "tensor(float16)"
    output = open_pose(models).run(batch(2))
    assert stub.calls[0][2] == np.float16 and output.dtype == np.float32


# ---- cancelling


class Impatient(Silent):
    def __init__(self, after):
        self.deadline = time.monotonic() + after

    def check_cancelled(self):
        if time.monotonic() > self.deadline:
            raise KeyboardInterrupt


def test_cancel_stops_a_running_computation(models, stub):
    """A frame on a slow machine takes seconds; the user does not wait for it."""
    stopped = threading.Event()

    def run(self, names, feed, options):
        options.terminate = False
        for _ in range(1000):
            if options.terminate:
                stopped.set()
                raise RuntimeError("terminated")
            time.sleep(0.01)

    stub.run = run
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        open_pose(models).run(batch(1), Impatient(0.1))
    assert stopped.is_set() and time.monotonic() - started < 2


def test_onnxruntime_knows_the_terminate_flag():
    import onnxruntime

    options = onnxruntime.RunOptions()
    assert options.terminate is False
    options.terminate = True
    assert options.terminate is True
