"""The stand-in's services beside the graph: models, cancelling, progress, folders."""

import threading
import time

import pytest
import torch

from . import use_standin

use_standin()

import comfy.model_management as management  # noqa: E402
import folder_paths  # noqa: E402
from comfy.model_patcher import ModelPatcher  # noqa: E402
from comfy.utils import ProgressBar  # noqa: E402
from server import PromptServer  # noqa: E402


class Holder(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner


class Bare(torch.nn.Linear):
    """Like diffusers' and transformers' models."""

    @property
    def device(self):
        return self.weight.device


def patcher_for(module):
    return ModelPatcher(module, management.get_torch_device(), management.unet_offload_device())


@pytest.fixture
def no_models():
    management.unload_all_models()
    yield
    management.unload_all_models()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_patches_are_applied_once_and_taken_back_exactly(no_models, dtype):
    module = Holder(torch.nn.Linear(4, 3).to(dtype))
    before, diff = module.inner.weight.detach().clone(), torch.randn(3, 4)
    plain = patcher_for(module)
    lora = plain.clone()
    patch = {"inner.weight": ("diff", (diff,)), "inner.other": ("diff", (diff,))}
    assert lora.add_patches(patch, 0.5) == ["inner.weight"]
    with torch.inference_mode():
        management.load_models_gpu([lora])
        management.load_models_gpu([lora])
    wanted = (before.float() + 0.5 * diff).to(dtype)
    assert torch.equal(module.inner.weight, wanted)
    assert lora.loaded_size() == lora.model_size() == 15 * before.element_size()
    management.load_models_gpu([plain])
    assert torch.equal(module.inner.weight, before) and management.loaded_models() == [plain]
    management.load_models_gpu([lora])
    management.unload_all_models()
    assert torch.equal(module.inner.weight, before) and lora.loaded_size() == 0


def test_bare_module_with_readonly_device_is_refused_at_load(no_models):
    with pytest.raises(AttributeError, match="no setter"):
        management.load_models_gpu([patcher_for(Bare(2, 2))])
    management.load_models_gpu([patcher_for(Holder(Bare(2, 2)))])


def test_loading_makes_room_by_unloading_the_oldest(no_models, monkeypatch):
    first, second = (patcher_for(Holder(torch.nn.Linear(10, 10))) for _ in range(2))
    monkeypatch.setattr(management, "TOTAL_MEMORY", int(first.model_size() * 1.5))
    management.load_models_gpu([first])
    management.load_models_gpu([second])
    assert management.loaded_models() == [second] and first.loaded_size() == 0


def test_progress_outside_a_run_is_no_error_and_server_has_no_instance():
    ProgressBar(3).update(1)
    assert getattr(PromptServer, "instance", None) is None
    assert not issubclass(management.InterruptProcessingException, Exception)


def test_interrupt_from_another_thread_is_raised_once():
    threading.Thread(target=management.interrupt_current_processing).start()
    with pytest.raises(management.InterruptProcessingException):
        for _ in range(100):
            management.throw_exception_if_processing_interrupted()
            time.sleep(0.01)
    management.throw_exception_if_processing_interrupted()


def test_model_folders_follow_the_base_directory(tmp_path):
    old = folder_paths.base_path
    folder_paths.add_model_folder_path("toys", f"{folder_paths.models_dir}/toys")
    try:
        folder_paths.use_base_directory(tmp_path)
        (tmp_path / "models" / "toys" / "sub").mkdir(parents=True)
        (tmp_path / "models" / "toys" / "sub" / "a.onnx").touch()
        (tmp_path / "models" / "vae" / "b.onnx").parent.mkdir()
        (tmp_path / "models" / "vae" / "b.onnx").touch()
        assert folder_paths.get_filename_list("toys") == ["sub/a.onnx"]
        assert folder_paths.get_filename_list("vae") == []
        found = folder_paths.get_full_path("toys", "../toys/sub/a.onnx")
        assert found is None and folder_paths.get_full_path("toys", "sub/a.onnx")
        with pytest.raises(FileNotFoundError):
            folder_paths.get_full_path_or_raise("toys", "sub/b.onnx")
        with pytest.raises(Exception, match="outside"):
            folder_paths.get_save_image_path("../x", folder_paths.get_output_directory())
    finally:
        folder_paths.use_base_directory(old)
