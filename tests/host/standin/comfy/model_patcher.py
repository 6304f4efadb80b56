"""Owner of a module's weights: loads it on a device, patches it, gives both back exactly."""

import uuid

import torch

from .weight_adapter import LoRAAdapter


def set_weight(module, key, value):
    """Put `value` where the state dict key points, as a parameter or a buffer."""
    path, _, name = key.rpartition(".")
    owner = module.get_submodule(path)
    if name in owner._parameters:
        value = torch.nn.Parameter(value, requires_grad=False)
    setattr(owner, name, value)


def is_reached(module, key):
    """The real hosts leave out parameters of modules whose children have parameters too."""
    owner = module.get_submodule(key.rpartition(".")[0])
    own = list(owner.named_parameters(recurse=False))
    return len(own) == len(list(owner.parameters()))


def patched(weight, entries):
    """weight * strength_model + strength_patch * diff, in float32, back in the weight's dtype."""
    value = weight.to(torch.float32)
    for strength_patch, patch, strength_model in entries:
        if isinstance(patch, LoRAAdapter):
            value = patch.calculate_weight(value * strength_model, strength_patch)
            continue
        if not isinstance(patch, tuple) or (len(patch) == 2 and patch[0] != "diff"):
            raise NotImplementedError(
                f"the stand-in knows diff and LoRA patches only, not {patch!r:.60}"
            )
        content = patch[1] if len(patch) == 2 else patch  # ("diff", (tensor,)) or (tensor,)
        value = value * strength_model + strength_patch * content[0].to(value)
    return value.to(weight.dtype)


class ModelPatcher:
    """What `load_models_gpu` loads and other nodes can evict. Clones share the module."""

    def __init__(self, model, load_device, offload_device, size=0, weight_inplace_update=False):
        self.model = model
        self.load_device = load_device
        self.offload_device = offload_device
        self.size = size
        self.patches = {}
        self.patches_uuid = uuid.uuid4()
        self.backup = {}
        self.model_options = {"transformer_options": {}}
        for name, start in (
            ("device", offload_device),
            ("model_loaded_weight_memory", 0),
            ("current_weight_patches_uuid", None),
        ):
            if not hasattr(model, name):
                setattr(model, name, start)

    def clone(self):
        twin = type(self)(self.model, self.load_device, self.offload_device, self.size)
        twin.patches = {key: list(entries) for key, entries in self.patches.items()}
        twin.patches_uuid = self.patches_uuid
        twin.backup = self.backup  # one module, so one set of original weights
        twin.model_options = {**self.model_options}
        return twin

    def is_clone(self, other):
        return getattr(other, "model", None) is self.model

    def add_patches(self, patches, strength_patch=1.0, strength_model=1.0):
        """Remember patches; returns the keys that exist in the model, others pass unnoticed."""
        known = self.model.state_dict().keys()
        taken = [key for key in patches if key in known]
        for key in taken:
            self.patches.setdefault(key, []).append((strength_patch, patches[key], strength_model))
        self.patches_uuid = uuid.uuid4()
        return taken

    def model_size(self):
        if not self.size:
            self.size = sum(weight.nbytes for weight in self.model.state_dict().values())
        return self.size

    def loaded_size(self):
        return self.model.model_loaded_weight_memory

    def current_loaded_device(self):
        return self.model.device

    def model_state_dict(self, filter_prefix=None):
        found = self.model.state_dict()
        return {key: found[key] for key in found if key.startswith(filter_prefix or "")}

    def load(
        self,
        device_to=None,
        lowvram_model_memory=0,
        force_patch_weights=False,
        full_load=False,
    ):
        """Apply the patches and move the module; doing it twice changes nothing."""
        module = self.model
        if module.current_weight_patches_uuid != self.patches_uuid or force_patch_weights:
            self._restore()
            weights = module.state_dict()
            for key, entries in self.patches.items():
                if not is_reached(module, key):
                    continue
                self.backup[key] = weights[key]
                set_weight(module, key, patched(weights[key], entries))
            module.current_weight_patches_uuid = self.patches_uuid
        if device_to is not None:
            module.to(device_to)
        module.model_loaded_weight_memory = self.model_size()
        # A diffusers or transformers model has a read-only `device` and fails here, as on the
        # real hosts: wrap it in a plain module.
        module.device = device_to

    def patch_model(
        self,
        device_to=None,
        lowvram_model_memory=0,
        load_weights=True,
        force_patch_weights=False,
    ):
        if load_weights:
            self.load(device_to, lowvram_model_memory, force_patch_weights)
        return self.model

    def unpatch_model(self, device_to=None, unpatch_weights=True):
        if not unpatch_weights:
            return
        self._restore()
        self.model.current_weight_patches_uuid = None
        self.model.model_loaded_weight_memory = 0
        if device_to is not None:
            self.model.to(device_to)
            self.model.device = device_to

    def detach(self, unpatch_all=True):
        self.unpatch_model(self.offload_device, unpatch_weights=unpatch_all)
        return self.model

    def _restore(self):
        for key, weight in self.backup.items():
            set_weight(self.model, key, weight)
        self.backup.clear()
