"""The Wan VAE at work: a forward of our own over the weights of diffusers' `AutoencoderKLWan`.

Its convolutions are causal: each looks back at the two frames before. So a video passes through in
chunks, one after the other, and every convolution remembers what the next chunk looks back at. What
is remembered, the chunks and the layers are the same as in diffusers; only the way is another:

- frames lie as [T, H, W, C], so that what a pixel's channels share is read at once and a run of
  frames is one piece of memory;
- normalisation and SiLU write into a buffer behind the remembered frames, where the convolution
  reads them: nothing is joined, padded or copied for it;
- doubling the size and the convolution after it are one transposed convolution, which takes 16
  products where the two take 36;
- decoding may compute in half precision; encoding has the precision of the weights.

`WAN_LOCAL_FORWARD=diffusers` lets the stock modules compute instead, see `wan/switch.py`.
"""

from .walk import Walk, open_decoder, open_encoder

__all__ = ["Walk", "open_decoder", "open_encoder"]
