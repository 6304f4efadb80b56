"""Tiles as i2v.md 5.13 words them, with every tile in a list: what wan/tiling.py is held against."""

import torch


def starts(size, tile_size):
    return range(0, size, tile_size // 8 * 3 // 4)


def tile_naively(run, height, width, tile_size, scale):
    """The blended whole.

    run: gives the output of the latent rows and columns named by two slices.
    height, width: in latents. scale: 8 where the output is pixels, 1 where it is latents.
    """
    size = tile_size // 8
    overlap, kept = size * scale // 4, size * scale * 3 // 4
    rows = [
        [
            run(slice(top, min(top + size, height)), slice(left, min(left + size, width))).clone()
            for left in starts(width, tile_size)
        ]
        for top in starts(height, tile_size)
    ]
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            if i > 0:
                fade_rows(rows[i - 1][j], tile, overlap)
            if j > 0:
                fade_rows(row[j - 1].mT, tile.mT, overlap)
    wide = [torch.cat([tile[..., :kept, :kept] for tile in row], dim=-1) for row in rows]
    return torch.cat(wide, dim=-2)


def fade_rows(a, b, overlap):
    extent = min(a.shape[-2], b.shape[-2], overlap)
    for y in range(extent):
        upper = a[..., a.shape[-2] - extent + y, :]
        b[..., y, :] = b[..., y, :] * (y / extent) + upper * (1 - y / extent)
