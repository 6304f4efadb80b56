"""How the host names the ways a patch can change a weight. Of them only two factors."""

import torch


class LoRAAdapter:
    """strength * alpha / rank * up @ down.

    Args:
        loaded_keys: names in the file the factors came from.
        weights: up, down, alpha or None, and three that must be None here (core, DoRA, sizes).
    """

    name = "lora"

    def __init__(self, loaded_keys, weights):
        self.loaded_keys = loaded_keys
        self.weights = weights

    def calculate_weight(self, weight, strength):
        up, down, alpha, *rest = self.weights
        if any(part is not None for part in rest):
            raise NotImplementedError("the stand-in knows factors and alpha only")
        scale = 1.0 if alpha is None else alpha / len(down)
        up, down = (t.to(weight.device, torch.float32).flatten(1) for t in (up, down))
        return weight + (strength * scale) * (up @ down).reshape(weight.shape)
