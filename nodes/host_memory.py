"""The door to ComfyUI's memory manager, which owns every model and may evict it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from uuid import uuid5

import comfy.model_management as memory
import torch
from comfy.model_patcher import ModelPatcher
from comfy.weight_adapter import LoRAAdapter
from torch import nn

from ..wan.deltas import Delta, LowRank, Patches, WeightPatch, change_bytes
from ..wan.quantised import quantised_names
from ..wan.residency import Estimate, Offload, PatchedWeights, Turns, default_dtype
from ..wan.residency.offload import can_stream
from ..wan.residency.ring import BlockRing, find_stack, footprint
from ..wan.residency.weights import Homes

log = logging.getLogger("wan_local")

_EVERYTHING = 1e30  # bytes; what the host itself asks for to unload all models
# What this pack can compute in; the host chooses among them by device and start options.
_DTYPES = [torch.bfloat16, torch.float16, torch.float32]


class _Holder(nn.Module):
    """A plain module around a model: the host sets `device`, which diffusers' models refuse."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


class HostPlacement:
    """Every model belongs to ComfyUI's memory manager, which can see and evict it.

    Args:
        offload: when transformers are streamed block by block. What else leaves the device, and
            when, is the host's matter.
    """

    ranks = None

    def __init__(self, offload: Offload = Offload.AUTO) -> None:
        self.device = memory.get_torch_device()
        self.offload = offload

    def own(self, module: nn.Module, name: str, stack: str = "") -> "_HostOwned":
        """Put a model into the host's care; `stack` is the path of its list of blocks."""
        devices = {
            "text encoder": (memory.text_encoder_device, memory.text_encoder_offload_device),
            "image encoder": (memory.text_encoder_device, memory.text_encoder_offload_device),
            "vae": (memory.vae_device, memory.vae_offload_device),
        }
        load, offload = devices.get(name, (memory.get_torch_device, memory.unet_offload_device))
        device = load()
        if device.type == "cpu" and self.device.type != "cpu":
            stack = ""  # an encoder that the host keeps in RAM would only be there twice
        return _HostOwned(module, name, self, device, offload(), stack)

    def default_dtype(self) -> torch.dtype:
        """What the host would compute in here; its start options can force a type."""
        chosen = memory.unet_dtype(device=self.device, supported_dtypes=_DTYPES)
        if chosen in _DTYPES:
            return chosen
        log.info("%s weights are not made here; fp8 files stay fp8 as they are", chosen)
        return default_dtype(self.device)

    def room(self) -> int | None:
        """What is free on the device, and what models take that could be evicted."""
        return _room(self.device)

    def streams(self, estimate: Estimate) -> bool:
        """Whether a model will be streamed, as far as can be said before it is loaded."""
        if not estimate.footprint.stack or self.offload is Offload.OFF:
            return False
        return self.offload is Offload.BLOCKS or not estimate.fits_whole

    def free(self) -> None:
        """Take everything off the device."""
        memory.unload_all_models()
        memory.soft_empty_cache()


@cache
def placement(offload: Offload = Offload.AUTO) -> HostPlacement:
    """The one placement of this host, so that models of the same files share their weights."""
    return HostPlacement(offload)


class _HostOwned:
    """One module: a patcher for its plain weights, and a clone of it with patches on them.

    While its blocks are streamed they are no part of what the host moves; it is told of their
    buffers as memory that the work needs.
    """

    def __init__(
        self,
        module: nn.Module,
        name: str,
        placement: HostPlacement,
        device: torch.device,
        offload_device: torch.device,
        stack: str,
    ) -> None:
        self._name, self._placement, self._offload_device = name, placement, offload_device
        self._rest = PatchedWeights(module)
        self._stack = find_stack(module, stack if can_stream(device) else "")
        self._footprint = footprint(module, self._stack)
        self._quantised = set(quantised_names(module))
        self._ring: BlockRing | None = None
        self._must_stream = self._is_streaming = self._is_used = False
        self._turns = Turns()
        self._give_to_host(device)

    @contextmanager
    def on_device(self, memory_required: int, patches: Patches = ()) -> Iterator[nn.Module]:
        def prepare(wanted: Patches) -> None:
            if not self._is_used:
                self._choose(wanted, memory_required)
            self._is_used = True
            self._load(wanted, memory_required)

        with self._turns.take(patches, prepare, self._leave):
            yield self._plain.model.model

    def release(self) -> None:
        self._turns.if_idle(self._unload)

    @property
    def is_streamed(self) -> bool:
        """Whether its blocks were streamed when it was used last."""
        return self._is_streaming

    def shrink(self) -> bool:
        if self._must_stream or self._stack is None:
            return False
        was_streamed, self._must_stream = self._is_streaming, True
        return not was_streamed

    def _give_to_host(self, device: torch.device) -> None:
        module = self._rest.module
        self._plain = ModelPatcher(_Holder(module), device, self._offload_device)
        # One clone is kept, so that it is not made again for every use.
        self._patched: tuple[Patches, ModelPatcher] = ((), self._plain)
        # The host knows nothing of scales, so patches of quantised weights are ours too.
        self._skipped = _skipped_names(module) | set(quantised_names(module))

    def _choose(self, patches: Patches, work: int) -> None:
        """Whole or streamed."""
        device = self._plain.load_device
        work += change_bytes(patches, self._quantised)
        estimate = Estimate(self._name, self._footprint, work, _room(device), str(device))
        streams = self._must_stream or self._placement.streams(estimate)
        if streams == self._is_streaming:
            return
        self._unload()
        if self._ring is None:
            assert self._stack is not None  # nothing streams without
            log.info("%s: its blocks are streamed to %s", self._name, device)
            module = self._rest.module
            self._ring = BlockRing(module, self._stack, Homes(module), device)
        if streams:
            self._ring.take_out()
        else:
            self._ring.put_back()
        self._is_streaming = streams
        self._give_to_host(device)

    def _load(self, patches: Patches, work: int) -> None:
        ring = self._ring if self._is_streaming else None
        if ring:
            ring.set_patches(patches)
            work += ring.buffer_bytes
        else:
            work += change_bytes(patches, self._quantised)
        # Whole, because layers that are not the host's own cannot be loaded in part.
        memory.load_models_gpu([self._patcher(patches)], memory_required=work, force_full_load=True)
        self._rest.apply(patches, names=self._skipped)
        if ring:
            ring.open()

    def _leave(self) -> None:
        self._is_used = False
        self._rest.restore()
        if self._ring is not None:
            self._ring.close()

    def _unload(self) -> None:
        holder = self._plain.model
        loaded = memory.current_loaded_models
        others = [m for m in loaded if m.model is None or m.model.model is not holder]
        memory.free_memory(_EVERYTHING, self._plain.load_device, keep_loaded=others)

    def _patcher(self, patches: Patches) -> ModelPatcher:
        if patches != self._patched[0]:
            self._patched = (patches, self._with_patches(patches) if patches else self._plain)
        return self._patched[1]

    def _with_patches(self, patches: Patches) -> ModelPatcher:
        clone = self._plain.clone()
        for patch in patches:
            for batch in self._batches(patch):
                unknown = batch.keys() - set(clone.add_patches(batch, patch.strength))
                if unknown:  # the host would leave them out without a word
                    raise RuntimeError(f"ComfyUI does not know the weights {sorted(unknown)}")
        # The host patches again where this number is another one. Made from what the patches
        # are, it stays the same when the same LoRAs are added anew.
        content = repr([(patch.identity, patch.strength) for patch in patches])
        clone.patches_uuid = uuid5(self._plain.patches_uuid, content)
        return clone

    def _is_ours(self, name: str) -> bool:
        """Whether we patch a weight and not the host."""
        is_streamed = self._is_streaming and self._ring is not None and self._ring.covers(name)
        return is_streamed or name in self._skipped

    def _batches(self, patch: WeightPatch) -> Iterator[dict]:
        """The host's patches by its weight names; a second change of one weight comes later."""
        for index in range(max(map(len, patch.deltas.values()))):
            yield {
                f"model.{name}": _host_patch(deltas[index])  # `model` is the child of _Holder
                for name, deltas in patch.deltas.items()
                if index < len(deltas) and not self._is_ours(name)
            }


def _room(device: torch.device) -> int | None:
    if device.type == "cpu":
        return None
    loaded = [m for m in memory.current_loaded_models if m.model and m.device == device]
    ours = sum(model.model_loaded_memory() for model in loaded)
    return int(memory.get_free_memory(device) + ours - memory.extra_reserved_memory())


def _host_patch(delta: Delta):
    if isinstance(delta, LowRank):
        # weights: up, down, alpha, and three that plain LoRAs do not have (core, DoRA, sizes)
        return LoRAAdapter(set(), (delta.up, delta.down, delta.alpha, None, None, None))
    return ("diff", (delta.diff,))


def _skipped_names(module: nn.Module) -> set[str]:
    """Parameters that the host's patches do not reach, and we patch ourselves: small tables.

    ModelPatcher._load_list leaves out the parameters of a module whose children have some too,
    such as the modulation tables of the blocks. It says so to nobody.
    """
    skipped = set()
    for owner, child in module.named_modules():
        own = [name for name, _ in child.named_parameters(recurse=False)]
        if len(own) < sum(1 for _ in child.parameters()):
            skipped.update(f"{owner}.{name}" if owner else name for name in own)
    return skipped
