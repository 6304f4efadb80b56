"""Latent formats, as far as a previewer asks about them."""


class LatentFormat:
    latent_channels = 4
    latent_dimensions = 2
    latent_rgb_factors = None
    latent_rgb_factors_bias = None
    taesd_decoder_name = None


def plain_factors(channels):
    """[channels][3]: channel i feeds colour i % 3. Made up: the host's numbers are its own."""
    return [[0.3 if i % 3 == colour else 0.0 for colour in range(3)] for i in range(channels)]


class Wan21(LatentFormat):
    latent_channels = 16
    latent_dimensions = 3
    latent_rgb_factors = plain_factors(16)
    latent_rgb_factors_bias = (0.0, 0.0, 0.0)


class Wan22(LatentFormat):
    latent_channels = 48
    latent_dimensions = 3
    latent_rgb_factors = plain_factors(48)
    latent_rgb_factors_bias = (0.0, 0.0, 0.0)
