import gc

import pytest
import torch
from naive_tiling import tile_naively
from wan_local.wan.errors import InputError
from wan_local.wan.memory import vae_decode_bytes, vae_encode_bytes
from wan_local.wan.tiling import blend_tiles, plan_tiles

LATENTS, PIXELS = 1, 8


def never():
    pass


def assemble(plan, scale, run, frames=1, check_cancelled=never):
    result = torch.full((3, frames, plan.height * scale, plan.width * scale), torch.nan)
    for times, rows, columns, piece in blend_tiles(plan, scale, run, check_cancelled):
        assert result[:, times, rows, columns].isnan().all(), "each place comes once"
        result[:, times, rows, columns] = piece
    return result


def enlarge(latents):
    """A decoder that knows no surroundings: each latent becomes 8x8 pixels."""
    return latents.repeat_interleave(8, -1).repeat_interleave(8, -2)


def ramp():
    """A decoder that returns 1 for its first tile, 2 for the second, ..."""
    calls = []

    def run(tile):
        calls.append(tile)
        yield torch.full((3, 1, len(tile.rows) * 8, len(tile.columns) * 8), float(len(calls)))

    return calls, run


@pytest.mark.parametrize(
    ("height", "width", "tile_size", "count"),
    [(60, 104, 128, 45), (60, 104, 256, 15), (90, 160, 128, 112), (90, 160, 256, 28)],
)
def test_a25_number_of_tiles(height, width, tile_size, count):
    assert len(plan_tiles(height, width, tile_size).tiles) == count


@pytest.mark.parametrize("tile_size", [128, 256])
def test_a25_tiles_of_a_decoder_without_surroundings_equal_the_whole(tile_size):
    latents = torch.randn(3, 2, 60, 104, generator=torch.Generator().manual_seed(0))
    calls = []

    def run(tile):
        calls.append(tile)
        rows, columns = tile.area(LATENTS)
        yield from enlarge(latents[..., rows, columns]).split(1, dim=1)

    tiled = assemble(plan_tiles(60, 104, tile_size), PIXELS, run, frames=2)
    assert len(calls) == {128: 45, 256: 15}[tile_size]
    assert tiled.shape == (3, 2, 480, 832)
    assert (tiled - enlarge(latents)).abs().max() <= 1e-6


def test_a25_ramp():
    calls, run = ramp()
    result = assemble(plan_tiles(16, 40, 128), PIXELS, run)
    assert len(calls) == 8 and (calls[-1].row, calls[-1].column) == (1, 3)
    assert result.shape == (3, 1, 128, 320)
    row = result[0, 0, 0, [95, 96, 97, 100, 112, 127, 128]]
    assert row.tolist() == [1, 1, 1.03125, 1.125, 1.5, 1.96875, 2]


def test_a25_edges_are_blended_before_they_are_faded_into():
    # Where four tiles meet: the upper neighbour first, then the left one, both already blended.
    _, run = ramp()
    result = assemble(plan_tiles(28, 28, 128), PIXELS, run)[0, 0]
    # Tiles 1 2 3 / 4 5 6 / 7 8 9; halfway (16 of 32 pixels) down and right of the corner (96, 96).
    upper = (1 + 2) / 2  # tile 2 already holds half of tile 1 here
    left = (1 + 4) / 2
    assert result[112, 112] == ((upper + 5) / 2 + left) / 2
    assert result[96, 190] == 2 and result[190, 96] == 4  # the first line is all neighbour


@pytest.mark.parametrize("scale", [LATENTS, PIXELS])
@pytest.mark.parametrize(
    ("size", "tile_size"),
    [
        ((17, 2), 128),
        ((20, 26), 128),
        ((25, 33), 128),
        ((36, 40), 128),
        ((33, 2), 256),
        ((25, 33), 256),
        ((50, 74), 256),
    ],
)
def test_blending_equals_the_words_of_the_spec(size, scale, tile_size):
    # Nothing in common where tiles overlap, so that every weight and every neighbour shows.
    def run(rows, columns):
        generator = torch.Generator().manual_seed(rows.start * 1000 + columns.start)
        height, width = rows.stop - rows.start, columns.stop - columns.start
        return torch.randn(3, 2, height * scale, width * scale, generator=generator)

    expected = tile_naively(run, *size, tile_size, scale)
    plan = plan_tiles(*size, tile_size)
    ours = assemble(plan, scale, lambda tile: run(*tile.area(LATENTS)).split(1, dim=1), frames=2)
    assert torch.equal(ours, expected)


def test_tiles_of_latents_and_of_pixels_cover_the_same_place():
    tile = plan_tiles(20, 26, 128).tiles[-1]
    assert tile.area(LATENTS) == (slice(12, 20), slice(24, 26))
    assert tile.area(PIXELS) == (slice(96, 160), slice(192, 208))


@pytest.mark.parametrize(("size", "tile_size"), [((16, 16), 128), ((32, 20), 256), ((90, 160), 0)])
def test_a_picture_that_fits_into_one_tile_is_handed_on_as_it_is(size, tile_size):
    plan = plan_tiles(*size, tile_size)
    given = torch.randn(3, 1, *size).half()
    (part,) = blend_tiles(plan, LATENTS, lambda tile: [given], never)
    assert part[:3] == (slice(0, 1), slice(0, size[0]), slice(0, size[1]))
    assert torch.equal(part[3], given)


def test_half_precision_is_blended_in_float32():
    def run(tile):
        return [torch.ones(3, 1, len(tile.rows), len(tile.columns), dtype=torch.bfloat16)]

    pieces = [part[3] for part in blend_tiles(plan_tiles(20, 20, 128), LATENTS, run, never)]
    assert {piece.dtype for piece in pieces} == {torch.float32}


@pytest.mark.parametrize("tile_size", [64, -1, 512, None, "128"])
def test_another_tile_size_is_refused(tile_size):
    with pytest.raises(InputError, match="vae_tile_size is") as caught:
        plan_tiles(60, 104, tile_size)
    assert repr(tile_size) in caught.value.what and "128" in caught.value.fix


def test_cancelling_is_possible_before_each_tile_and_after_each_piece():
    asked = []

    def run(tile):
        for _ in range(3):
            asked.append("run")
            yield torch.zeros(3, 1, len(tile.rows), len(tile.columns))

    plan = plan_tiles(12, 28, 128)
    assemble(plan, LATENTS, run, 3, lambda: asked.append("check"))
    assert len(plan.tiles) == 3
    assert asked == ["check", *["run", "check"] * 3] * 3


def test_memory_does_not_grow_with_the_number_of_rows():
    """Bytes of all tensors, looked at while the last tile of each row is made."""

    def live():
        tensors = [x for x in gc.get_objects() if type(x) is torch.Tensor]
        return sum({t.data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())

    def peak(rows_of_tiles):
        plan = plan_tiles(12 * rows_of_tiles, 28, 128)
        seen = []

        def run(tile):
            if tile.is_rightmost:
                seen.append(live() - before)
            yield torch.zeros(3, 4, len(tile.rows) * 8, len(tile.columns) * 8)

        before = live()
        for _ in blend_tiles(plan, PIXELS, run, never):
            pass
        assert len(seen) == rows_of_tiles
        return max(seen)

    few, many = peak(3), peak(6)
    lower_edges = 3 * 4 * 32 * (128 + 128 + 32) * 4
    right_edge = 3 * 4 * 128 * 32 * 4
    piece_handed_out = 3 * 4 * 128 * 128 * 4
    assert few == many <= lower_edges + right_edge + piece_handed_out


def test_estimates_shrink_with_the_tiles():
    size = (832, 480)
    whole, large, small = (vae_decode_bytes(*size, tile, frames=81) for tile in (0, 256, 128))
    assert small < large < whole / 4
    assert vae_encode_bytes(*size, 128) == vae_encode_bytes(128, 128)
    assert vae_encode_bytes(*size, 256) == vae_encode_bytes(256, 256) < vae_encode_bytes(*size)


def test_estimates_of_a_picture_smaller_than_a_tile_are_those_without_tiles():
    assert vae_decode_bytes(112, 64, 128, 81) == vae_decode_bytes(112, 64)
    assert vae_encode_bytes(112, 64, 256) == vae_encode_bytes(112, 64)


def test_the_estimate_holds_the_edges_of_a_long_video():
    one = vae_decode_bytes(1280, 720, 128, frames=1)
    longer = vae_decode_bytes(1280, 720, 128, frames=82)
    widths = [len(tile.columns) * 8 for tile in plan_tiles(90, 160, 128).tiles if tile.row == 0]
    edges = 3 * 81 * 32 * (sum(widths) + 128) * 4
    assert edges <= longer - one <= 1.1 * edges
