"""Previews of a running sampler: off unless `comfy.cli_args.args.preview_method` says so."""

import torch
from comfy.cli_args import LatentPreviewMethod, args
from PIL import Image


class Latent2RGBPreviewer:
    """A linear map from latent channels to colours."""

    def __init__(self, latent_rgb_factors, latent_rgb_factors_bias=None):
        self.latent_rgb_factors = torch.tensor(latent_rgb_factors).T  # C 3 -> 3 C
        bias = latent_rgb_factors_bias
        self.latent_rgb_factors_bias = None if bias is None else torch.tensor(bias)

    def decode_latent_to_preview(self, x0):
        """x0 [B,C,T,H,W] or [B,C,H,W]; the first frame of the first video as an image."""
        frame = x0[0, :, 0] if x0.ndim == 5 else x0[0]
        colours = torch.nn.functional.linear(
            frame.float().cpu().movedim(0, -1),  # C H W -> H W C
            self.latent_rgb_factors,
            self.latent_rgb_factors_bias,
        )
        pixels = ((colours + 1) / 2 * 255).clamp(0, 255).to(torch.uint8)
        return Image.fromarray(pixels.numpy())

    def decode_latent_to_preview_image(self, preview_format, x0):
        """The tuple that `ProgressBar.update_absolute` takes."""
        return preview_format, self.decode_latent_to_preview(x0), args.preview_size


def get_previewer(device, latent_format):
    """The user's previewer for this latent, or None."""
    off = args.preview_method is LatentPreviewMethod.NoPreviews
    if off or latent_format.latent_rgb_factors is None:
        return None
    return Latent2RGBPreviewer(
        latent_format.latent_rgb_factors, latent_format.latent_rgb_factors_bias
    )
