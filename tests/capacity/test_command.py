"""`python -m wan capacity`: what it says, and what it refuses."""

import json

import pytest
from small_media import small_video
from wan_local.wan.capacity.gpus import KINDS, parse_pools
from wan_local.wan.capacity.measurements import read_measurements
from wan_local.wan.cli import main

USUAL = ["capacity", "--gpus", "h100:8,rtx4090:4"]
FORWARD, ATTENTION = 3.9, 620.0
FOUND = {
    "machine": {"device": "NVIDIA H100 80GB HBM3", "torch": "2.13.0", "date": "2026-11-20"},
    "small": False,
    "B0 ceilings": {
        "8192^3 TFLOP/s": 760.0,
        "dim to dim TFLOP/s": 700.0,
        "dim to ffn TFLOP/s": 710.0,
        "ffn to dim TFLOP/s": 705.0,
        "to device GB/s": 53.0,
        "copy GB/s, read and written": 2900.0,
    },
    "B1 attention": {
        "32760 tokens, as shipped: TFLOP/s": ATTENTION,
        "75600 tokens, as shipped: TFLOP/s": 640.0,
        "32760 tokens, as shipped: error": 0.001,
        "32760 tokens, flash": "not available",
    },
    "B2 forward": {"32760 tokens, as shipped: ours s": FORWARD},
    "B4 branches": {"skipped step: ratio (goal 0.01)": 0.004},
    "B6 vae": {
        "480p decode, diffusers float32: s": 4.0,
        "480p decode, bfloat16: of diffusers (goal 0.4)": 0.25,
        "480p encode: s": 1.5,
    },
}


@pytest.fixture
def bench(tmp_path):
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps(FOUND))
    return path


def answer(capsys, *arguments):
    assert main([*USUAL, *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def pool(told, name):
    return next(p for p in told["pools"] if p["gpu"] == name)


def figures(told):
    """Every number that has an origin."""
    if isinstance(told, dict):
        if "origin" in told:
            yield told
        else:
            for value in told.values():
                yield from figures(value)
    elif isinstance(told, list):
        for value in told:
            yield from figures(value)


def refused(capsys, *arguments):
    assert main(["capacity", *arguments]) == 2
    return capsys.readouterr().err


def test_text_names_kinds_steps_and_origins(capsys):
    assert main([*USUAL, "--jobs-per-hour", "100"]) == 0
    out = capsys.readouterr().out
    for words in ("h100 x 8: bf16 weights", "rtx4090 x 4: bf16 weights, blocks streamed"):
        assert words in out
    assert "32,760 tokens, 1.686 PFLOP a forward (counted)" in out
    assert "h100 alone: " in out
    lines = [line for line in out.splitlines() if line.startswith("  ")]
    numbers = [line for line in lines if " alone:" not in line and "These GPUs" not in line]
    assert len(numbers) > 25
    assert all(
        any(f" {o} " in n for o in ("modelled", "counted", "nominal", "measured")) for n in numbers
    )


def test_nothing_is_measured_where_nothing_was(capsys):
    told = list(figures(answer(capsys)))
    assert len(told) > 30
    assert {figure["origin"] for figure in told} == {"counted", "modelled", "nominal"}
    assert all(figure["source"] for figure in told)


def test_a_measured_forward_is_measured_at_its_size_only(capsys, bench):
    told = answer(capsys, "--bench", str(bench))
    step = pool(told, "h100")["figures"]["computed step"]
    assert step["origin"] == "measured" and "gpu.json, 2026-11-20" in step["source"]
    assert step["value"] == pytest.approx(2 * FORWARD)
    assert pool(told, "h100")["rates"]["attention"]["value"] == ATTENTION * 1e12
    assert pool(told, "rtx4090")["figures"]["computed step"]["origin"] == "modelled"
    other = answer(capsys, "--bench", str(bench), "--input", "num_frames=49")
    step = pool(other, "h100")["figures"]["computed step"]
    assert step["origin"] == "modelled" and step["value"] < 2 * FORWARD


def test_what_was_measured_changes_the_stages(capsys, bench):
    before = pool(answer(capsys, "--input", "vae_tile_size=0"), "h100")["figures"]
    arguments = ("--bench", str(bench), "--input", "vae_tile_size=0")
    after = pool(answer(capsys, *arguments), "h100")["figures"]
    assert after["decode"]["value"] == pytest.approx(1.0)  # a quarter of 4 s
    assert before["decode"]["value"] != pytest.approx(1.0)
    assert after["sample"]["value"] == pytest.approx(2 * FORWARD * (15 + 15 * 0.004))


def test_the_processors_figures_change_what_it_does(capsys, tmp_path):
    path = tmp_path / "a.json"
    rows = [
        {"id": "A9", "name": "save: ours, from uint8", "wall": 92.16},
        {"id": "A9", "name": "read: ours, to uint8", "wall": 9.216},
        {"id": "A7", "name": "Lanczos 1.5x: uint8, 1 thread", "wall": 39.936},
        {"id": "A7", "name": "Lanczos 1.5x: uint8, 1 thread", "wall": 1.0},
    ]
    path.write_text(json.dumps({"rows": rows, "date": "2026-11-27", "processor": "P"}))
    enlarged = ("--input", "spatial_upsampling=lanczos1.5", "--bench", str(path))
    finish = pool(answer(capsys, *enlarged), "h100")["figures"]["finish"]
    # 0.1 us a pixel both, of 81 frames; 2.25 times as many are saved
    assert finish["value"] == pytest.approx(81 * 832 * 480 * 1e-7 * (1 + 2.25))
    assert "a.json, 2026-11-27, P" in finish["source"] and finish["origin"] == "modelled"


def test_demand_counts_gpus(capsys):
    told = answer(capsys, "--jobs-per-hour", "200", "--wait", "600", "--variation", "0")["demand"]
    hasty = answer(capsys, "--jobs-per-hour", "200", "--wait", "1", "--variation", "2")["demand"]
    for kind in ("h100", "rtx4090"):
        assert hasty["needed"][kind]["value"] > told["needed"][kind]["value"]
    assert told["used"]["value"] == pytest.approx(hasty["used"]["value"])
    much = answer(capsys, "--jobs-per-hour", "2000")["demand"]
    assert much["used"]["value"] > 1 and much["mean_wait"] is None and much["late"]["value"] == 1


def test_several_gpus_a_job(capsys):
    one, four = answer(capsys), answer(capsys, "--gpus-per-job", "4")
    assert four["context_parallel"] == "Ulysses" and one["context_parallel"] is None
    assert [p["slots"] for p in four["pools"]] == [2, 1]
    job = [pool(t, "h100")["figures"]["a job, warm"]["value"] for t in (one, four)]
    assert job[0] / 4 < job[1] < job[0] / 3
    eight = answer(capsys, "--gpus-per-job", "8")
    assert [p["slots"] for p in eight["pools"]] == [1, 0]


def test_disk_and_precision_have_an_effect(capsys):
    slow, fast = (
        pool(answer(capsys, "--disk", disk), "h100")["figures"]["first job more"]["value"]
        for disk in ("1", "4")
    )
    assert slow == pytest.approx(4 * fast)
    assert pool(answer(capsys, "--precision", "fp8"), "rtx4090")["precision"] == "fp8"


def test_a_driving_video_is_looked_into(capsys, tmp_path):
    video = tmp_path / "dance.mp4"
    video.write_bytes(small_video())
    arguments = ["--job", "wan-2-2-animate-v2v", "--input", "fps=-1"]
    told = answer(capsys, *arguments, "--input", f"driving_video={video}")
    assert told["job"]["frames"] == 8
    assert answer(capsys, *arguments, "--driving-seconds", "2")["job"]["frames"] == 60
    both = ["--driving-seconds", "2", "--input", f"driving_video={video}"]
    assert "Both --driving-seconds" in refused(capsys, *USUAL[1:], *arguments, *both)


def test_animate_keeps_clips_in_storage(capsys):
    told = answer(capsys, "--job", "infsh/wan-2-2-animate-v2v")
    assert told["traffic"]["finished clips of a job"]["value"] == 300 * 1280 * 720 * 3 / 1e6
    assert answer(capsys)["traffic"]["finished clips of a job"]["value"] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gpus", "h101:2"], ["'h101'", "Did you mean h100"]),
        (["--gpus", "h100:0"], ["h100:0", "for example"]),
        (["--gpus", "h100:2,h100:3"], ["names each kind once"]),
        (["--gpus", "h100", "--gpu", "mine=4"], ["--gpu 'mine=4'", "memory"]),
        (["--gpus", "h100", "--gpu", "mine=4,nan,3"], ["mine=4,nan,3"]),
        (["--gpus", "h100", "--job", "wan"], ["no app 'wan'", "wan2-1-i2v"]),
        (["--gpus", "h100", "--input", "num_frame=3"], ["Did you mean num_frames?"]),
        (["--gpus", "h100", "--input", "size=big"], ["size", "'big'"]),
        (["--gpus", "h100", "--wait", "3"], ["without --jobs-per-hour"]),
        (["--gpus", "h100", "--disk", "0"], ["--disk is 0"]),
        (["--gpus", "h100", "--driving-seconds", "3"], ["takes no video"]),
        (["--gpus", "h100:2", "--gpus-per-job", "4"], ["--gpus-per-job is 4", "Use 2 or less"]),
        (["--gpus", "h100:2", "--gpus-per-job", "0"], ["--gpus-per-job is 0"]),
        (["--gpus", "h100", "--bench", "none.json"], ["none.json is not there", "bench.gpu"]),
    ],
)
def test_bad_input_is_named(capsys, arguments, words):
    told = refused(capsys, *arguments)
    assert all(word in told for word in words), told


def test_a_job_that_fits_nowhere_says_how_much_is_missing(capsys):
    told = refused(
        capsys, "--gpus", "small:1", "--gpu", "small=6,20,300", "--input", "size=1280x720"
    )
    assert "fits on none of small" in told and "are missing" in told
    assert "Make the video" in told and "set num_frames to" in told


def test_files_that_measured_nothing_are_refused(capsys, tmp_path, bench):
    path = tmp_path / "other.json"
    path.write_text(json.dumps(FOUND | {"small": True}))
    assert "of a miniature" in refused(capsys, "--gpus", "h100", "--bench", str(path))
    path.write_text("{}")
    assert "no file of the benchmarks" in refused(capsys, "--gpus", "h100", "--bench", str(path))
    assert "None of the kinds" in refused(capsys, "--gpus", "a100", "--bench", str(bench))


NAMES = {
    "h100": "NVIDIA H100 80GB HBM3",
    "h100-pcie": "NVIDIA H100 PCIe",
    "h200": "NVIDIA H200",
    "h20": "NVIDIA H20",
    "a100": "NVIDIA A100-SXM4-80GB",
    "a100-40": "NVIDIA A100-SXM4-40GB",
    "a10": "NVIDIA A10",
    "l40s": "NVIDIA L40S",
    "l4": "NVIDIA L4",
    "a6000": "NVIDIA RTX A6000",
    "rtx4090": "NVIDIA GeForce RTX 4090",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_device_is_of_one_kind(tmp_path, name):
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps(FOUND | {"machine": {"device": NAMES[name]}}))
    found = read_measurements(path)
    assert [kind.name for kind in KINDS.values() if found.is_of(kind)] == [name]


def test_a_kind_of_ones_own():
    assert [p.count for p in parse_pools("h100, L4:3")] == [1, 3]


def test_known_kinds_are_listed(capsys):
    assert main(["capacity", "--list-gpus"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in KINDS) and "nominal" in out.lower()
