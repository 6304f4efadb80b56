"""The clip loop: seams, noise, resuming, continuing, colours, memory."""

from dataclasses import replace

import pytest
import torch
from wan_local.wan.animate import AnimateSettings, animate
from wan_local.wan.animate import loop as loop_module
from wan_local.wan.animate.loop import Places
from wan_local.wan.animate.store import DiskClips, MemoryClips
from wan_local.wan.clips import plan_clips
from wan_local.wan.decode.vae import decode_video
from wan_local.wan.encode import latents
from wan_local.wan.encode.animate import condition_animation, encode_clip
from wan_local.wan.encode.prompt import encode_prompts
from wan_local.wan.errors import GeometryError, InputError, ModelError
from wan_local.wan.payloads import Scene, VideoLatents
from wan_local.wan.progress import Silent
from wan_local.wan.sample.clip import clip_shape, sample_clip
from wan_local.wan.sample.guidance import Guidance
from wan_local.wan.sample.settings import SampleSettings
from wan_local.wan.seeds import draw_noise, make_generator
from watched_walks import watch_walks

HEIGHT, WIDTH, FRAMES = 32, 48, 19
SAMPLE = SampleSettings(steps=2, guidance=Guidance(1.0, cfg_star=False), solver="dpm++", seed=5)
SETTINGS = AnimateSettings(SAMPLE, clip_len=9)


def frames(count, size=(HEIGHT, WIDTH), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *size, 3), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def text(animate_model):
    return encode_prompts(animate_model, "somebody waves", "", Silent())


@pytest.fixture(scope="module")
def animate_model(animate_weights):
    return animate_weights


@pytest.fixture(scope="module")
def animate_weights(tiny):
    from conftest import open_tiny

    return open_tiny(tiny, "ANIMATE")


def make_condition(model, count=FRAMES, scene=None, **changes):
    given = {
        "reference": frames(1, (40, 60), 5)[0],
        "poses": frames(count, seed=1),
        "faces": frames(count, (64, 64), 2),
    }
    given |= changes
    return condition_animation(
        model, **given, width=WIDTH, height=HEIGHT, reporter=Silent(), scene=scene
    )


@pytest.fixture(scope="module")
def condition(animate_model):
    return make_condition(animate_model)


@pytest.fixture(scope="module")
def plain(animate_model, text, condition):
    return result(animate_model, text, condition, SETTINGS)


def result(model, text, condition, settings, **options):
    """All frames as one tensor."""
    made = animate(model, text, condition, settings, options.pop("reporter", Silent()), **options)
    whole = torch.cat(list(made.frames()))
    assert whole.dtype == torch.uint8
    assert len(whole) == made.num_frames and whole.shape[1:] == (made.height, made.width, 3)
    made.close()
    return whole


class Log(Silent):
    """Keeps what is said; stops at an update."""

    def __init__(self, stop=None):
        self.notes, self.lines, self.done, self.stop, self.totals = [], [], [], stop, []

    def start(self, phase, total):
        self.totals.append((phase, total))

    def update(self, done, preview=None):
        self.done.append(done)
        if self.stop is not None and done >= self.stop * self.totals[-1][1]:
            raise KeyboardInterrupt

    def note(self, text):
        self.notes.append(text)

    def status(self, text):
        self.lines.append(text)


@pytest.mark.parametrize("carry", [1, 5])
@pytest.mark.parametrize("mode", ["animation", "replacement"])
def test_the_loop_equals_a_straightforward_one(animate_model, text, carry, mode):
    """Every clip by hand: encode, sample, decode, take the last decoded frames over."""
    scene = None
    if mode == "replacement":
        scene = Scene(frames(FRAMES, seed=8), (frames(FRAMES, seed=9)[..., 0] > 127).byte())
    condition = make_condition(animate_model, scene=scene)
    settings = replace(SETTINGS, carry=carry)
    ours = result(animate_model, text, condition, settings)
    generator, pieces, carried = make_generator(5), [], None
    for clip in plan_clips(FRAMES, 9, carry):
        encoded = encode_clip(animate_model, condition, clip, carried, Silent())
        noise = draw_noise(clip_shape(encoded), generator)
        latents = sample_clip(animate_model, text, encoded, SAMPLE, noise, Silent()).latents
        decoded = decode_video(animate_model, VideoLatents(latents, 9, 5), Silent(), signed=True)
        carried = decoded[-carry:]
        pieces.append(decoded[clip.carried :])
    expected = torch.cat(pieces)[:FRAMES].add(1).mul(127.5).round().byte()
    assert torch.equal(ours, expected)


def test_a26_each_clip_takes_the_next_draw_of_one_generator(
    animate_model, text, condition, monkeypatch
):
    drawn = []
    plain_draw = loop_module.draw_noise

    def keep(shape, generator):
        drawn.append(plain_draw(shape, generator))
        return drawn[-1]

    monkeypatch.setattr(loop_module, "draw_noise", keep)
    result(animate_model, text, condition, SETTINGS)
    generator = torch.Generator().manual_seed(5)
    assert len(drawn) == 3
    for noise in drawn:
        expected = torch.randn(16, 4, HEIGHT // 8, WIDTH // 8, generator=generator)
        assert torch.equal(noise[0], expected)


def test_a26_the_same_seed_gives_the_same_video(animate_model, text, condition, plain):
    assert torch.equal(result(animate_model, text, condition, SETTINGS), plain)
    other = replace(SETTINGS, sample=replace(SAMPLE, seed=6))
    assert not torch.equal(result(animate_model, text, condition, other), plain)


def test_a26_seed_minus_1_is_drawn_and_reported(animate_model, text):
    condition, log = make_condition(animate_model, 3), Log()
    drawn = replace(SETTINGS, sample=replace(SAMPLE, seed=-1, steps=1))
    seeds = [animate(animate_model, text, condition, drawn, log).seed for _ in range(2)]
    assert seeds[0] != seeds[1] and min(seeds) >= 0
    assert [f"seed {seed} was drawn" in log.notes for seed in seeds] == [True, True]


@pytest.mark.parametrize("count", [1, 3, 5, 9, 10, 18])
@pytest.mark.parametrize("carry", [1, 5])
def test_a22_the_result_has_as_many_frames_as_were_selected(animate_model, text, count, carry):
    condition = make_condition(animate_model, count)
    settings = replace(SETTINGS, carry=carry, sample=replace(SAMPLE, steps=1))
    assert len(result(animate_model, text, condition, settings)) == count


def test_a25_calls_of_the_transformer(animate_model, text, condition):
    """Steps times clips, twice as many with guidance."""
    calls = []
    with animate_model.transformer.on_device() as transformer:
        layer = transformer.blocks[0].ffn.net[2]  # of whatever walks through the block
        handle = layer.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        result(animate_model, text, condition, SETTINGS)
        alone = len(calls)
        guided = replace(SAMPLE, guidance=Guidance(2.0, cfg_star=False))
        result(animate_model, text, condition, replace(SETTINGS, sample=guided))
    finally:
        handle.remove()
    assert (alone, len(calls) - alone) == (2 * 3, 2 * 2 * 3)


def test_an_animations_first_clip_encodes_the_reference_and_the_empty_clip_once(
    animate_model, text, condition, monkeypatch
):
    """Three encodes a clip: skeleton, given frames; the reference was encoded with the condition."""
    animate_model.vae.memo.clear()
    seen = []
    watch_walks(
        monkeypatch,
        latents,
        "open_encoder",
        lambda _, args: seen.append(float(args[0].abs().max())),
    )
    result(animate_model, text, condition, SETTINGS)
    assert len(seen) == 3 * 2 * 3  # clips, videos, chunks
    empty = [value == 0 for value in seen]
    # An empty chunk is one of a clip without given frames, or behind those taken over.
    assert empty == [False] * 3 + [True] * 3 + ([False] * 4 + [True] * 2) * 2


def test_a_second_run_encodes_only_what_it_made_itself(animate_model, text, condition, monkeypatch):
    """The skeleton and the empty clip are known by their content; taken-over frames are new."""
    animate_model.vae.memo.clear()
    result(animate_model, text, condition, SETTINGS)
    seen = []
    watch_walks(monkeypatch, latents, "open_encoder", lambda *_: seen.append(1))
    other = replace(SETTINGS, sample=replace(SAMPLE, seed=SAMPLE.seed + 1))
    result(animate_model, text, condition, other)
    assert len(seen) == 2 * 3  # the given frames of the second and third clip


def test_nothing_is_rounded_between_clips(animate_model, text, condition, monkeypatch):
    tails = []
    plain_encode = loop_module.encode_clip

    def keep(model, condition, clip, carried, *rest):
        tails.append(carried)
        return plain_encode(model, condition, clip, carried, *rest)

    monkeypatch.setattr(loop_module, "encode_clip", keep)
    result(animate_model, text, condition, SETTINGS)
    assert tails[0] is None
    for tail in tails[1:]:
        levels = (tail + 1) * 127.5
        assert tail.dtype == torch.float32 and (levels - levels.round()).abs().max() > 0.1


# Resuming


def kept_folders(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.mark.parametrize("stop", [0.4, 0.5, 0.8, 0.99])
def test_an_interrupted_run_goes_on_with_the_same_result(
    animate_model, text, condition, plain, tmp_path, stop
):
    places = Places(kept=tmp_path / "kept")
    with pytest.raises(KeyboardInterrupt):
        result(animate_model, text, condition, SETTINGS, places=places, reporter=Log(stop))
    (folder,) = (tmp_path / "kept").iterdir()
    finished = len(list(folder.glob("clip-*.safetensors")))
    assert finished == {0.4: 1, 0.5: 1, 0.8: 2, 0.99: 2}[stop]
    assert not list(folder.glob("*.partial"))
    log = Log()
    again = result(animate_model, text, condition, SETTINGS, places=places, reporter=log)
    assert torch.equal(again, plain)
    assert any(f"{finished} clips are there" in note for note in log.notes)
    assert not (tmp_path / "kept").exists()


def test_a_drawn_seed_survives_the_interruption(animate_model, text, condition, tmp_path):
    places = Places(kept=tmp_path)
    drawn = replace(SETTINGS, sample=replace(SAMPLE, seed=-1))
    with pytest.raises(KeyboardInterrupt):
        result(animate_model, text, condition, drawn, places=places, reporter=Log(0.5))
    made = animate(animate_model, text, condition, drawn, Silent(), places)
    whole = torch.cat(list(made.frames()))
    made.close()
    alone = replace(SETTINGS, sample=replace(SAMPLE, seed=made.seed))
    assert torch.equal(whole, result(animate_model, text, condition, alone))


@pytest.mark.parametrize(
    "change",
    [
        {"settings": replace(SETTINGS, sample=replace(SAMPLE, steps=3))},
        {"settings": replace(SETTINGS, sample=replace(SAMPLE, seed=6))},
        {"settings": replace(SETTINGS, colour_match="first clip")},
        {"condition": {"poses": frames(FRAMES, seed=11)}},
        {"condition": {"faces": frames(FRAMES, (64, 64), seed=11)}},
        {"condition": {"reference": frames(1, (40, 60), 11)[0]}},
        {"prompt": "somebody sits"},
    ],
)
def test_another_run_does_not_go_on_with_foreign_clips(
    animate_model, text, condition, tmp_path, change
):
    places = Places(kept=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        result(animate_model, text, condition, SETTINGS, places=places, reporter=Log(0.5))
    other_text, other_condition = text, condition
    if "condition" in change:
        other_condition = make_condition(animate_model, **change["condition"])
    if "prompt" in change:
        other_text = encode_prompts(animate_model, change["prompt"], "", Silent())
    settings, log = change.get("settings", SETTINGS), Log()
    ours = result(animate_model, other_text, other_condition, settings, places=places, reporter=log)
    assert not any("are there" in note for note in log.notes)
    assert torch.equal(ours, result(animate_model, other_text, other_condition, settings))


def test_one_clip_is_not_kept(animate_model, text, tmp_path):
    condition = make_condition(animate_model, 5)
    with pytest.raises(KeyboardInterrupt):
        result(animate_model, text, condition, SETTINGS, places=Places(tmp_path), reporter=Log(0.5))
    assert kept_folders(tmp_path) == []


# Continuing


@pytest.mark.parametrize("carry", [1, 5])
def test_a_continued_video_begins_with_what_was_given(animate_model, text, carry):
    """The second part of a long video, made from the end of the first."""
    settings = replace(SETTINGS, carry=carry, sample=replace(SAMPLE, steps=1))
    condition = make_condition(animate_model, 14)
    previous = torch.rand(8, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(1))
    made = animate(animate_model, text, condition, settings, Silent(), previous=previous)
    assert made.num_frames == 14 - carry
    ours = torch.cat(list(made.frames()))
    clip = plan_clips(14, 9, carry, continues=True)[0]
    given = previous[-carry:] * 2 - 1
    encoded = encode_clip(animate_model, condition, clip, given, Silent())
    assert (encoded.known[:, :4, 1] == 1).all()
    noise = draw_noise(clip_shape(encoded), make_generator(5))
    latents = sample_clip(animate_model, text, encoded, settings.sample, noise, Silent()).latents
    decoded = decode_video(animate_model, VideoLatents(latents, 9, 5), Silent(), signed=True)
    expected = decoded[carry:].add(1).mul(127.5).round().byte()
    assert torch.equal(ours[: 9 - carry], expected)


def test_previous_frames_of_8_bit_are_taken_too(animate_model, text):
    condition = make_condition(animate_model, 9)
    previous = frames(4, seed=3)
    settings = replace(SETTINGS, sample=replace(SAMPLE, steps=1))
    from_bytes, from_floats = (
        result(animate_model, text, condition, settings, previous=given)
        for given in (previous, previous.float() / 255)
    )
    assert torch.equal(from_bytes, from_floats)


@pytest.mark.parametrize("shape", [(4, 16, 16, 3), (HEIGHT, WIDTH, 3), (4, HEIGHT, WIDTH, 3)])
def test_previous_frames_that_do_not_fit_are_told(animate_model, text, condition, shape):
    settings = replace(SETTINGS, carry=5)
    with pytest.raises(GeometryError, match="previous frames"):
        animate(animate_model, text, condition, settings, Silent(), previous=torch.zeros(shape))


# Colours


def test_matched_clips_have_the_colours_of_the_first(animate_model, text, condition, plain):
    matched = result(animate_model, text, condition, replace(SETTINGS, colour_match="first clip"))
    assert torch.equal(matched[:9], plain[:9]) and not torch.equal(matched[9:], plain[9:])

    def distance(video):
        first, later = (part.float().mean((0, 1, 2)) for part in (video[:9], video[9:17]))
        return (first - later).abs().max()

    assert distance(matched) < distance(plain)


def test_colours_matched_to_the_reference(animate_model, text, condition):
    matched = result(animate_model, text, condition, replace(SETTINGS, colour_match="reference"))
    wanted = condition.reference.float().mean((0, 1))
    assert (matched[:9].float().mean((0, 1, 2)) - wanted).abs().max() < 3


def test_matching_survives_an_interruption(animate_model, text, condition, tmp_path):
    settings = replace(SETTINGS, colour_match="first clip")
    expected = result(animate_model, text, condition, settings)
    places = Places(kept=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        result(animate_model, text, condition, settings, places=places, reporter=Log(0.5))
    assert torch.equal(result(animate_model, text, condition, settings, places=places), expected)


# What is said and held


def test_one_bar_rises_over_all_clips(animate_model, text, condition):
    log = Log()
    result(animate_model, text, condition, SETTINGS, reporter=log)
    ((phase, total),) = log.totals
    assert phase == "animate" and log.done == sorted(log.done) and log.done[-1] == total
    assert any(
        line.startswith("clip 2 of 3, step 1 of 2") and "a step, about" in line
        for line in log.lines
    )
    assert "animation, 48x32, 19 frames in 3 clips of 9" in log.notes


def test_many_clips_are_warned_of(animate_model, text):
    condition = make_condition(animate_model, 21)
    settings = replace(SETTINGS, clip_len=5, sample=replace(SAMPLE, steps=1))
    log = Log()
    result(animate_model, text, condition, settings, reporter=log)
    assert any("colours may drift" in note for note in log.notes)
    quiet = Log()
    matched = replace(settings, colour_match="first clip")
    result(animate_model, text, condition, matched, reporter=quiet)
    assert not any("drift" in note for note in quiet.notes)


def test_long_videos_wait_on_disk(animate_model, text, condition, plain, tmp_path, monkeypatch):
    from wan_local.wan.animate import store

    monkeypatch.setattr(store, "MOST_IN_MEMORY", FRAMES * HEIGHT * WIDTH * 3 - 1)
    made = animate(animate_model, text, condition, SETTINGS, Silent(), Places(scratch=tmp_path))
    assert isinstance(made.store, DiskClips) and len(list(tmp_path.iterdir())) == 1
    assert torch.equal(torch.cat(list(made.frames())), plain)
    made.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyboardInterrupt):
        result(
            animate_model, text, condition, SETTINGS,
            places=Places(scratch=tmp_path), reporter=Log(0.5),
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_short_videos_wait_in_memory(animate_model, text, condition):
    made = animate(animate_model, text, condition, SETTINGS, Silent())
    assert isinstance(made.store, MemoryClips) and len(made.store) == 3


def test_tiles_change_the_way_but_hardly_the_result(animate_model, text):
    condition = make_condition(animate_model, 5)
    tiled = replace(SETTINGS, tile_size=128)
    assert torch.equal(
        result(animate_model, text, condition, tiled),
        result(animate_model, text, condition, SETTINGS),
    )


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"clip_len": 8}, GeometryError, "clip_len is 8"),
        ({"clip_len": 5, "carry": 5}, GeometryError, "refert_num is 5"),
        ({"carry": 2}, InputError, "refert_num is 2"),
        ({"colour_match": "mood"}, InputError, "colour_match is 'mood'"),
        ({"tile_size": 64}, InputError, "vae_tile_size is 64"),
        ({"sample": replace(SAMPLE, solver="euler")}, InputError, "euler"),
    ],
)
def test_wrong_settings_are_told_before_any_work(
    animate_model, text, condition, change, error, told
):
    log = Log()
    with pytest.raises(error, match=told):
        animate(animate_model, text, condition, replace(SETTINGS, **change), log)
    assert log.totals == []


def test_weights_for_something_else_are_refused(i2v, text, condition):
    with pytest.raises(ModelError, match="image to video"):
        animate(i2v, text, condition, SETTINGS, Silent())
