"""LoRA files in every spelling they come in, as patches on a model's weights."""
