"""What is written is what was given: frames, times, colours, sound, and never half of it."""

import math
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from wan_local.wan.errors import InputError
from wan_local.wan.media import formats
from wan_local.wan.media.formats import Encoding, find_format, offered_formats
from wan_local.wan.media.sound import Audio, read_sound
from wan_local.wan.progress import Silent
from wan_local.wan.save.video import write_video

ROOT = Path(__file__).resolve().parents[2]
ALL = [f.name for f in formats.FORMATS]
NTSC = Fraction(30000, 1001)


class Notes(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def needed(name):
    if name not in {f.name for f in offered_formats()}:
        pytest.skip(f"FFmpeg lacks the encoder of {name}")
    return find_format(name)


@pytest.fixture(params=ALL)
def chosen(request):
    """Each format that this build of FFmpeg has."""
    return needed(request.param)


@pytest.fixture(params=[f.name for f in formats.FORMATS if f.is_lossless])
def lossless(request):
    """Each of them that loses nothing."""
    return needed(request.param)


def gradient(frames, height=64, width=64):
    """Smooth pictures that grow lighter, so that a codec keeps them nearly as they are."""
    ramp = torch.linspace(40, 180, width).expand(frames, height, width)
    lighter = torch.linspace(0, 60, frames).view(-1, 1, 1)
    return torch.stack([ramp + lighter, ramp.flip(2), ramp * 0.5 + lighter], -1).to(torch.uint8)


def noise(frames, height=64, width=64):
    shape = (frames, height, width, 3)
    seeded = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded)


def tone(seconds, rate=44100, channels=2):
    at = torch.arange(round(seconds * rate)) / rate
    waves = [0.5 * torch.sin(2 * math.pi * (440 + 110 * c) * at) for c in range(channels)]
    return Audio(torch.stack(waves), rate)


def as_rgb(frame):
    """[H, W, 3] uint8 of a decoded frame; by hand for yuv420p, so that its colours are BT.709."""
    if frame.format.name != "yuv420p":
        return frame.to_ndarray(format="rgb24")
    height, width = frame.height, frame.width
    flat = frame.to_ndarray().astype(float).ravel()
    luma = (flat[: height * width].reshape(height, width) - 16) / 219
    blue, red = flat[height * width :].reshape(2, height // 2, width // 2).repeat(2, 1).repeat(2, 2)
    blue, red = (blue - 128) / 224 * 1.8556, (red - 128) / 224 * 1.5748  # ITU-R BT.709-6, 3.2
    green = (-0.0722 * blue - 0.2126 * red) / 0.7152
    rgb = np.stack([luma + red, luma + green, luma + blue], -1)
    return (rgb.clip(0, 1) * 255).round().astype(np.uint8)


def read(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [as_rgb(f) for f in container.decode(video=0)]
        return stream.average_rate, torch.from_numpy(np.stack(frames)), stream.codec_context


def times(path):
    """Seconds at which the frames are shown, and for how long video and sound last."""
    with av.open(str(path)) as container:
        shown = sorted(p.pts * p.time_base for p in container.demux(video=0) if p.size)
    lasts = {}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.size:
                end = (packet.pts + (packet.duration or 0)) * packet.time_base
                lasts[packet.stream.type] = max(lasts.get(packet.stream.type, 0), end)
    return shown, lasts


def test_what_is_written_is_read_back(tmp_path, chosen):
    path = tmp_path / f"a video{chosen.suffix}"
    frames = gradient(9)
    given = [frames[:1], frames[1:5], frames[5:]]
    assert write_video(path, given, 16, Encoding(chosen)) == 9
    rate, back, context = read(path)
    assert rate == 16 and back.shape == frames.shape
    assert context.codec.canonical_name == {
        "libx264": "h264",
        "libx264rgb": "h264",
        "libsvtav1": "av1",
        "libvpx-vp9": "vp9",
        "ffv1": "ffv1",
    }.get(chosen.encoder)
    # At this quality every codec moves smooth pictures by a few levels of 255.
    assert (back.float() - frames.float()).abs().mean() < 3


@pytest.mark.parametrize("size", [(48, 64), (33, 47), (7, 5)])
@pytest.mark.parametrize("preset", formats.PRESETS)
def test_lossless_is_bit_for_bit_at_any_size(tmp_path, lossless, size, preset):
    path = tmp_path / f"a{lossless.suffix}"
    frames = noise(5, *size)
    write_video(path, [frames], NTSC, Encoding(lossless, preset=preset))
    rate, back, context = read(path)
    assert rate == NTSC and torch.equal(back, frames)
    assert (context.colorspace, context.color_range) == (0, 2)


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128)])
def test_colours_survive_and_are_tagged_bt709(tmp_path, chosen, colour):
    path = tmp_path / f"colour{chosen.suffix}"
    flat = torch.tensor(colour, dtype=torch.uint8).expand(5, 64, 64, 3)
    write_video(path, [flat], 8, Encoding(chosen))
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.color_primaries, context.color_trc) == (1, 1)
        if not chosen.is_lossless:
            assert (context.colorspace, context.color_range) == (1, 1)
        pixels = as_rgb(next(container.decode(video=0)))
    assert abs(pixels[16, 16].astype(int) - colour).max() <= 4


RATES = [Fraction(24000, 1001), NTSC, 29.97, 30000 / 1001, 23.976, 16, 0.5, 120]


@pytest.mark.parametrize("fps", RATES)
def test_every_frame_is_shown_at_its_time(tmp_path, fps, chosen):
    exact = Fraction(fps).limit_denominator(100_000)
    path = tmp_path / f"a{chosen.suffix}"
    write_video(path, [gradient(20, 64, 64)], fps, Encoding(chosen, preset="fast"))
    shown, _ = times(path)
    # MP4 keeps fractions; the others count milliseconds.
    tolerance = 0 if chosen.suffix == ".mp4" else Fraction(1, 2000)
    assert len(shown) == 20
    assert all(abs(at - i / exact) <= tolerance for i, at in enumerate(shown))
    assert read(path)[0] == exact


def test_a_float_means_the_fraction_it_came_from(tmp_path):
    for fps, exact in ((30000 / 1001, NTSC), (29.97, Fraction(2997, 100))):
        write_video(tmp_path / "a.mp4", [gradient(3)], fps)
        assert read(tmp_path / "a.mp4")[0] == exact


def test_round_trip_with_sound(tmp_path, chosen):
    path, frames = tmp_path / f"a{chosen.suffix}", gradient(81, 64, 96)
    write_video(path, [frames], NTSC, Encoding(chosen, preset="fast"), audio=tone(5))
    rate, back, _ = read(path)
    shown, lasts = times(path)
    assert rate == NTSC and len(back) == len(shown) == 81
    assert (back.float() - frames.float()).abs().mean() < 3
    whole, frame = 81 / NTSC, 1 / NTSC
    assert abs(lasts["video"] - whole) < frame and abs(lasts["audio"] - whole) < frame
    sound = read_sound(path, 0.0, 10.0, Silent())
    assert sound.samples.shape[0] == 2
    # Decoders of AAC give whole blocks of 1024.
    assert abs(sound.samples.shape[1] / sound.rate - whole) < frame
    # Loud to the end: nothing was cut off and no silence was added.
    last = sound.samples[:, int((float(whole) - 0.05) * sound.rate) :][:, : sound.rate // 25]
    assert last.abs().max() > 0.4


@pytest.mark.parametrize("rate", [8000, 22050, 37000, 48000, 192000])
@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_sound_of_every_rate_and_layout_keeps_its_place(tmp_path, chosen, rate, channels):
    path, samples = tmp_path / f"a{chosen.suffix}", torch.zeros(channels, rate * 2)
    samples[:, rate : rate + rate // 50] = tone(0.02, rate, channels).samples
    write_video(
        path,
        [gradient(40, 64, 64)],
        20,
        Encoding(chosen, preset="fast"),
        audio=Audio(samples, rate),
    )
    sound = read_sound(path, 0.0, 2.0, Silent())
    assert len(sound.samples) == channels
    is_kept = chosen.sound == "flac" or (chosen.sound == "aac" and rate in (8000, 22050, 48000))
    assert sound.rate == (rate if is_kept else 48000)
    loud = (sound.samples.abs().amax(0) > 0.25).nonzero() / sound.rate
    # 20 ms of tone at the first second; a codec smears it by a few milliseconds.
    assert abs(loud.min() - 1) < 0.01 and abs(loud.max() - 1.02) < 0.01


def test_sound_beside_ffv1_keeps_24_bits(tmp_path):
    form, audio = needed("mkv FFV1 lossless"), tone(1)
    write_video(tmp_path / "a.mkv", [noise(8)], 8, Encoding(form), audio=audio)
    sound = read_sound(tmp_path / "a.mkv", 0.0, 1.0, Silent())
    assert (sound.samples - audio.samples).abs().max() <= 2**-23


def test_short_sound_stays_short(tmp_path, chosen):
    path = tmp_path / f"a{chosen.suffix}"
    write_video(path, [gradient(81, 64, 64)], NTSC, Encoding(chosen), audio=tone(1))
    lasts = times(path)[1]
    assert abs(lasts["audio"] - 1) < 1 / NTSC and lasts["video"] > 2.6


def test_sound_lies_beside_its_frames_in_the_file(tmp_path, chosen):
    """Players read on, they do not jump; the encoder holds back dozens of frames, which are long."""
    path = tmp_path / f"a{chosen.suffix}"
    write_video(path, [gradient(81)], 2, Encoding(chosen), audio=tone(41, 8000, 1))
    at, apart = {}, []
    with av.open(str(path)) as container:
        packets = [(p.pos, p.stream.type, p.dts * p.time_base) for p in container.demux() if p.size]
    for _, kind, time in sorted(packets):
        at[kind] = time
        apart.append(at["audio"] - at["video"] if len(at) == 2 else 0)
    assert max(map(abs, apart)) <= 3  # seconds: B-frames are stored up to two frames early


def test_frames_do_not_wait_for_sound_that_ended(tmp_path):
    form = needed("mkv FFV1 lossless")

    def frames():
        for done in range(240):
            if done == 200:
                (part,) = tmp_path.iterdir()
                # A second of frames may wait, not the ten of FFmpeg's habit.
                assert part.stat().st_size > 160 * 64 * 64 * 3 / 2
            yield noise(1)

    write_video(tmp_path / "a.mkv", frames(), 30, Encoding(form), audio=tone(0.1))


def test_no_sound_is_no_stream(tmp_path):
    write_video(tmp_path / "a.mp4", [gradient(3)], 16, audio=Audio(torch.empty(2, 0), 44100))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert not container.streams.audio


def test_sound_that_is_no_number_is_silent_and_named(tmp_path):
    audio, notes = tone(1), Notes()
    audio.samples[:, 1000:2000] = torch.nan
    audio.samples[:, 2000:2005] = torch.inf
    write_video(tmp_path / "a.mp4", [gradient(16)], 16, audio=audio, reporter=notes)
    assert len(notes.notes) == 1 and "sound" in notes.notes[0]
    assert read_sound(tmp_path / "a.mp4", 0.0, 1.0, Silent()).samples.isfinite().all()


@pytest.mark.parametrize(
    "audio",
    [Audio(torch.zeros(3, 9), 44100), Audio(torch.zeros(9), 44100), Audio(torch.zeros(1, 9), 0)],
)
def test_sound_that_no_file_can_hold_is_refused(tmp_path, audio):
    with pytest.raises(InputError, match="1, 2, 6 or 8 channels"):
        write_video(tmp_path / "a.mp4", [gradient(3)], 16, audio=audio)
    assert list(tmp_path.iterdir()) == []


def test_images_are_rounded_and_their_faults_named(tmp_path):
    path = tmp_path / "a.mkv"
    images = torch.rand(4, 8, 8, 4, generator=torch.Generator().manual_seed(0))
    images[2, 3, 3, 0] = torch.nan
    notes = Notes()
    write_video(path, [images], 8, reporter=notes)
    expected = (images[..., :3].nan_to_num(0) * 255).round()
    expected[2, 3, 3] = 0
    assert (read(path)[1] == expected).all()
    assert ["alpha" in n or "NaN" in n for n in notes.notes] == [True, True]


def test_same_frames_give_the_same_file(tmp_path, chosen):
    frames = torch.rand(9, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(frames, size=(64, 96), mode="bicubic")
    path, contents = tmp_path / f"a{chosen.suffix}", set()
    # x264 with "mbtree" gave another file in one run of a few.
    for _ in range(60 if chosen.encoder == "libx264" else 8):
        images = smooth.permute(0, 2, 3, 1)
        write_video(path, [images], 16, Encoding(chosen), audio=tone(1))
        contents.add(path.read_bytes())
    assert len(contents) == 1


def panning(frames, height, width, colours=1):
    """A soft texture that moves by a pixel a frame."""
    rough = torch.rand(1, colours, 20, 30, generator=torch.Generator().manual_seed(0))
    picture = torch.nn.functional.interpolate(rough, scale_factor=8, mode="bicubic")[0]
    moved = [picture[:, i : i + height, i : i + width] for i in range(frames)]
    moved = torch.stack(moved).clamp(0, 1).mul(255).to(torch.uint8)
    return moved.expand(-1, 3, -1, -1).permute(0, 2, 3, 1)


def test_the_words_for_quality_mean_the_same_everywhere(tmp_path):
    """Of lossy formats each word gives about one PSNR, and a better word a better one."""
    frames, found = panning(33, 120, 200), []
    for word in formats.QUALITIES:
        row = []
        for chosen in (f for f in offered_formats() if not f.is_lossless):
            path = tmp_path / f"a{chosen.suffix}"
            write_video(path, [frames], 16, Encoding(chosen, word))
            error = (read(path)[1].float() - frames.float()).square().mean()
            row.append(float(-10 * torch.log10(error / 255**2)))
        found.append(row)
    # 3 dB are five or six steps of x264's rate factor; the words lie farther apart.
    assert all(max(row) - min(row) < 3 for row in found), found
    assert all(min(better) > max(worse) for better, worse in pairwise(found))


def test_presets_and_rate_factors_reach_the_encoder(tmp_path, chosen):
    path, sizes = tmp_path / f"a{chosen.suffix}", {}
    frames = torch.nn.functional.interpolate(
        noise(9, 12, 16).permute(0, 3, 1, 2).float(), scale_factor=8, mode="bicubic"
    )
    frames = frames.clamp(0, 255).permute(0, 2, 3, 1).to(torch.uint8)
    for preset in formats.PRESETS:
        write_video(path, [frames], 16, Encoding(chosen, preset=preset))
        sizes[preset] = path.stat().st_size
    assert len(set(sizes.values())) == 3
    if not chosen.is_lossless:
        for crf in (5, 40):
            write_video(path, [frames], 16, Encoding(chosen, crf=crf))
            sizes[crf] = path.stat().st_size
        assert sizes[40] < sizes["medium"] < sizes[5]
