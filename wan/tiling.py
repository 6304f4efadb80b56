"""Tiles of a picture: each one goes through the VAE alone, so that less has to fit into memory.

One plan serves both directions: decoding reads a tile's latents and writes its pixels, encoding
the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import InputError
from .geometry import SPATIAL_STRIDE

TILE_SIZES = (0, 128, 256)
"""Pixels per side that can be asked for; 0 = the whole picture at once."""


@dataclass(frozen=True)
class Tile:
    """One tile. It overlaps the next one to the right and below, where there is one."""

    row: int
    """Position in the grid of tiles, from the top."""
    column: int
    """Position in the grid of tiles, from the left."""
    rows: range
    """Latent rows it covers."""
    columns: range
    """Latent columns it covers."""
    is_lowest: bool
    """Whether no tile follows below."""
    is_rightmost: bool
    """Whether no tile follows to the right."""

    def area(self, scale: int) -> tuple[slice, slice]:
        """Rows and columns it covers; `scale` 1 counts latents, `SPATIAL_STRIDE` pixels."""
        return _scaled(self.rows, scale), _scaled(self.columns, scale)


@dataclass(frozen=True)
class TilePlan:
    """How a picture is cut into tiles, row by row. Lengths are in latents."""

    height: int
    """Of the whole picture."""
    width: int
    """Of the whole picture."""
    stride: int
    """From one tile to the next; also what is kept of a tile, from its upper left corner."""
    tiles: tuple[Tile, ...]
    """In reading order, which is the order they are blended in."""


def plan_tiles(height: int, width: int, tile_size: int) -> TilePlan:
    """Cut a picture into overlapping tiles.

    Tiles begin every 3/4 of their size as long as there is picture; the last ones are smaller. A
    picture that fits into one tile is not cut at all.

    Args:
        height, width: of the picture, in latents.
        tile_size: side of a tile in pixels, 0 (one tile, whatever its size), 128 or 256.
    Raises:
        InputError: another tile size.
    Source: Wan2.1 as run by Wan2GP, wan/modules/vae.py, spatial_tiled_decode.
    """
    if tile_size not in TILE_SIZES:
        raise InputError(
            what=f"vae_tile_size is {tile_size!r}.",
            why="The VAE works on whole pictures or on tiles of 128 or 256 pixels.",
            fix="Use 0 (whole pictures, fastest), 256, or 128 (least memory).",
        )
    size = tile_size // SPATIAL_STRIDE
    if (height <= size and width <= size) or tile_size == 0:
        size = stride = max(height, width)
    else:
        stride = size * 3 // 4
    tiles = tuple(
        Tile(
            row=top // stride,
            column=left // stride,
            rows=range(top, min(top + size, height)),
            columns=range(left, min(left + size, width)),
            is_lowest=top + stride >= height,
            is_rightmost=left + stride >= width,
        )
        for top in range(0, height, stride)
        for left in range(0, width, stride)
    )
    return TilePlan(height, width, stride, tiles)


@torch.inference_mode()
def blend_tiles(
    plan: TilePlan,
    scale: int,
    run: Callable[[Tile], Iterable[Tensor]],
    check_cancelled: Callable[[], None],
) -> Iterator[tuple[slice, slice, slice, Tensor]]:
    """Run every tile and fade its upper and left edge into the tiles that came before.

    Between two tiles only the edges that a later tile fades into are held: one row of tiles of
    lower edges, one tile of right edges. Nothing grows with the number of rows.

    Args:
        plan: the tiles.
        scale: what the output of a tile is measured in: 1 = latents, `SPATIAL_STRIDE` = pixels.
        run: gives the output of one tile in consecutive pieces [..., t, h, w]; every tile in
            pieces of the same lengths. A piece is changed in place.
        check_cancelled: called before each tile and after each piece; may raise.
    Yields:
        (frames, rows, columns, piece): where in the whole output, and what belongs there; float32
        where tiles were blended. Each place comes once. Valid until the next piece is asked for.
    Source: Wan2.1 as run by Wan2GP, wan/modules/vae.py, blend_v and blend_h.
    """
    kept = plan.stride * scale
    above: dict[tuple[int, int], Tensor] = {}  # (column of tiles, piece) -> its lower edge
    left: dict[int, Tensor] = {}  # piece -> its right edge
    for tile in plan.tiles:
        check_cancelled()
        first = 0
        rows, columns = _kept(tile.rows, plan, scale), _kept(tile.columns, plan, scale)
        for index, piece in enumerate(run(tile)):
            if len(plan.tiles) > 1:
                piece = piece.float()  # the VAE may compute in half precision
            # The order matters where four tiles meet. Both edges are already blended themselves.
            if tile.row > 0:
                _fade(above.pop((tile.column, index)), piece, dim=-2)
            if tile.column > 0:
                _fade(left.pop(index), piece, dim=-1)
            # Copies, because a slice would keep the whole piece alive.
            if not tile.is_lowest:
                above[tile.column, index] = piece[..., kept:, :].clone()
            if not tile.is_rightmost:
                left[index] = piece[..., kept:].clone()
            frames = slice(first, first + piece.shape[-3])
            yield frames, rows, columns, piece[..., :kept, :kept]
            first = frames.stop
            check_cancelled()


def _fade(edge: Tensor, piece: Tensor, dim: int) -> None:
    """Cross-fade from what lies under the first rows or columns of `piece`; both are changed."""
    # What a tile has beyond its stride is all that it shares with the next one: never more than
    # the overlap or the next tile, so no minimum of the three has to be taken here.
    extent = edge.shape[dim]
    steps = torch.arange(extent, device=piece.device)
    steps = steps.view(-1, 1) if dim == -2 else steps
    edge.mul_((extent - steps) / extent)
    piece.narrow(dim, 0, extent).mul_(steps / extent).add_(edge)


def _kept(covered: range, plan: TilePlan, scale: int) -> slice:
    return _scaled(covered[: plan.stride], scale)


def _scaled(covered: range, scale: int) -> slice:
    return slice(covered.start * scale, covered.stop * scale)
