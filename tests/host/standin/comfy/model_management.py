"""Devices, loaded models and cancelling. CPU only, with a made-up memory size.

`TOTAL_MEMORY` is a number that tests may lower to see models being evicted.
"""

import threading
import weakref

import torch

TOTAL_MEMORY = 64 * 1024**3
OOM_EXCEPTION = torch.OutOfMemoryError
current_loaded_models = []

_CPU = torch.device("cpu")
_interrupt = threading.Event()


class InterruptProcessingException(BaseException):
    """Raised in a cancelled run. BaseException as on 0.33 (Exception on 0.3.64)."""


def interrupt_current_processing(value=True):
    if value:
        _interrupt.set()
    else:
        _interrupt.clear()


def processing_interrupted():
    return _interrupt.is_set()


def throw_exception_if_processing_interrupted():
    if _interrupt.is_set():
        _interrupt.clear()
        raise InterruptProcessingException


class LoadedModel:
    """One entry of `current_loaded_models`; it does not keep the patcher alive."""

    def __init__(self, patcher):
        self._patcher = weakref.ref(patcher)
        self.device = patcher.load_device

    @property
    def model(self):
        return self._patcher()

    def model_memory(self):
        return self.model.model_size() if self.model is not None else 0

    def model_loaded_memory(self):
        return self.model.loaded_size() if self.model is not None else 0


def _drop_collected():
    current_loaded_models[:] = [item for item in current_loaded_models if item.model is not None]


def load_models_gpu(
    models,
    memory_required=0,
    force_patch_weights=False,
    minimum_memory_required=None,
    force_full_load=False,
):
    """Make room, then load each patcher; the last loaded of one module's clones is the entry."""
    _drop_collected()
    wanted = [patcher.model for patcher in models]
    for item in list(current_loaded_models):
        if any(item.model.model is module for module in wanted):
            current_loaded_models.remove(item)
    for patcher in models:
        missing = patcher.model_size() - patcher.loaded_size()
        keep = [LoadedModel(other) for other in models]
        free_memory(memory_required + missing, patcher.load_device, keep)
        patcher.load(patcher.load_device, force_patch_weights=force_patch_weights)
        current_loaded_models.insert(0, LoadedModel(patcher))


def load_model_gpu(model):
    return load_models_gpu([model])


def loaded_models(only_currently_used=False):
    return [item.model for item in current_loaded_models]


def free_memory(memory_required, device, keep_loaded=()):
    """Unload models, the longest loaded first, until `memory_required` bytes are free."""
    _drop_collected()
    kept = {id(item.model.model) for item in keep_loaded if item.model is not None}
    unloaded = []
    for item in reversed(list(current_loaded_models)):
        if get_free_memory(device) >= memory_required:
            break
        if id(item.model.model) not in kept:
            item.model.detach()
            current_loaded_models.remove(item)
            unloaded.append(item)
    return unloaded


def unload_all_models():
    free_memory(float("inf"), _CPU)


def get_free_memory(dev=None, torch_free_too=False):
    used = sum(item.model_loaded_memory() for item in current_loaded_models)
    free = TOTAL_MEMORY - used
    return (free, free) if torch_free_too else free


def get_total_memory(dev=None, torch_total_too=False):
    return (TOTAL_MEMORY, TOTAL_MEMORY) if torch_total_too else TOTAL_MEMORY


def soft_empty_cache(force=False):
    """There is no cache to empty on a CPU."""


def get_torch_device():
    return _CPU


def unet_offload_device():
    return _CPU


def text_encoder_device():
    return _CPU


def text_encoder_offload_device():
    return _CPU


def vae_device():
    return _CPU


def vae_offload_device():
    return _CPU


def intermediate_device():
    return _CPU


def unet_dtype(device=None, model_params=0, **kwargs):
    return torch.float32


def vae_dtype(device=None, allowed_dtypes=()):
    return torch.float32


def text_encoder_dtype(device=None):
    """float16 even on a CPU, as measured on both hosts."""
    return torch.float16


def should_use_fp16(device=None, model_params=0, **kwargs):
    return False


def should_use_bf16(device=None, model_params=0, **kwargs):
    return False


def is_device_cpu(device):
    return torch.device(device).type == "cpu"


def cpu_mode():
    return True
