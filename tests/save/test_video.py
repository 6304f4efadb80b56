from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from wan_local.wan.errors import GeometryError, OutputError
from wan_local.wan.save.video import check_writable, to_uint8, write_video


def gradient(frames, height=48, width=64):
    """Smooth pictures that grow lighter, so that a codec keeps them nearly as they are."""
    ramp = torch.linspace(40, 180, width).expand(frames, height, width)
    lighter = torch.linspace(0, 60, frames).view(-1, 1, 1)
    return torch.stack([ramp + lighter, ramp.flip(2), ramp * 0.5 + lighter], -1).to(torch.uint8)


def read(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        return stream.average_rate, torch.from_numpy(np.stack(frames)), stream.codec_context


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "a video.mp4"
    frames = gradient(9)
    assert write_video(path, [frames[:1], frames[1:5], frames[5:]], 16) == 9
    rate, back, context = read(path)
    assert rate == 16 and back.shape == frames.shape
    assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
    # H.264 at this quality moves smooth pictures by a few levels of 255.
    assert (back.float() - frames.float()).abs().mean() < 3


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128)])
def test_colours_survive_and_are_tagged_bt709(tmp_path, colour):
    path = tmp_path / "colour.mp4"
    write_video(path, [torch.tensor(colour, dtype=torch.uint8).expand(5, 32, 32, 3)], 8)
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc) == (1, 1, 1)
        frame = next(container.decode(video=0))
        pixels = frame.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray()
    assert abs(pixels[16, 16].astype(int) - colour).max() <= 4


def test_fractional_rates_are_exact(tmp_path):
    write_video(tmp_path / "ntsc.mp4", [gradient(8)], Fraction(24000, 1001))
    rate, frames, _ = read(tmp_path / "ntsc.mp4")
    assert rate == Fraction(24000, 1001) and len(frames) == 8


def test_same_frames_give_the_same_file(tmp_path):
    frames = torch.rand(9, 3, 6, 12, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(frames, size=(48, 96), mode="bicubic")
    pixels = to_uint8(smooth).permute(0, 2, 3, 1).contiguous()
    contents = set()
    for _ in range(60):
        write_video(tmp_path / "a.mp4", [pixels], 16)
        contents.add((tmp_path / "a.mp4").read_bytes())
    assert len(contents) == 1


def test_to_uint8_rounds_and_clamps():
    values = torch.tensor([-1.0, 0.0, 0.999, 1.0, 2.0, 127.4 / 255, 127.6 / 255])
    assert to_uint8(values).tolist() == [0, 0, 255, 255, 255, 127, 128]


def test_an_odd_side_is_named(tmp_path):
    with pytest.raises(GeometryError, match="33x32"):
        write_video(tmp_path / "odd.mp4", [torch.zeros(1, 32, 33, 3, dtype=torch.uint8)], 8)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_in_the_middle_leaves_no_file(tmp_path):
    def frames():
        yield gradient(120)  # more than the encoder looks ahead, so that some are written
        raise RuntimeError("cancelled")

    with pytest.raises(RuntimeError):
        write_video(tmp_path / "half.mp4", frames(), 8)
    assert list(tmp_path.iterdir()) == []


def test_output_that_cannot_be_written_is_named_beforehand(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        check_writable(tmp_path / "none" / "out.mp4")
    with pytest.raises(OutputError, match="it is a folder"):
        check_writable(tmp_path)
    with pytest.raises(OutputError, match=r"\.mp4"):
        check_writable(tmp_path / "film.avi")
    check_writable(tmp_path / "fine.mp4")
    assert list(tmp_path.iterdir()) == []
