"""What cannot work is said at start, in one clear error each."""

import os
import subprocess
import textwrap

import pytest
from ray_cluster import ROOT, serve_command
from wan_local.wan.cli import main
from wan_local.wan.cluster.node import NodeReport, check_nodes, pack_version
from wan_local.wan.errors import MissingFileError, UnavailableError
from wan_local.wan.params import APPS


def refusal(data, *more, models=None, **environment):
    """What `serve` says when it refuses to start."""
    command = serve_command(data, "--executor", "ray", *more)
    command += ["--models", str(models)] if models else []
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 2 and not done.stdout, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) >= 3, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--address", "auto"),
        ("--storage", "x"),
        ("--workers", "2"),
        ("--gpus-per-job", "1"),
        ("--cpus-per-job", "1"),
        ("--retries", "1"),
        ("--idle-minutes", "5"),
    ],
)
def test_cluster_options_need_the_cluster(tmp_path, capsys, option, value):
    assert main(["serve", "--data", str(tmp_path / "data"), option, value]) == 2
    assert f"{option} has no effect without --executor ray" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--workers", "0"),
        ("--retries", "-1"),
        ("--gpus-per-job", "-1"),
        ("--gpus-per-job", "1.5"),
        ("--gpus-per-job", "nan"),
        ("--cpus-per-job", "-1"),
        ("--idle-minutes", "0"),
    ],
)
def test_numbers_out_of_range(tmp_path, capsys, option, value):
    arguments = ["serve", "--executor", "ray", "--data", str(tmp_path / "data")]
    assert main([*arguments, f"{option}={value}"]) == 2
    assert f"{option} {value} cannot be used" in capsys.readouterr().err


def test_without_ray(tmp_path):
    (tmp_path / "ray.py").write_text("raise ImportError('No module named ray')")
    said = refusal(tmp_path / "data", PYTHONPATH=str(tmp_path))
    assert "Ray is not installed" in said and 'pip install "ray>=2.40"' in said


def test_a_storage_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    said = refusal(tmp_path / "data", "--storage", str(tmp_path / "file" / "below"))
    assert "cannot be written" in said and "--storage" in said


def test_a_storage_in_memory(tmp_path):
    assert "memory of one process" in refusal(tmp_path / "data", "--storage", "memory://x")


def test_a_cluster_out_of_reach(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    said = refusal(tmp_path / "data", "--address", "127.0.0.1:1")
    assert "127.0.0.1:1" in said and "ray start --head" in said


OTHER_VERSION = """
    import sys
    if "cluster-driver" in sys.orig_argv:
        import ray
        ray.__version__ = "2.39.0"
"""


def test_a_cluster_of_another_version(nodes, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(OTHER_VERSION))
    said = refusal(tmp_path / "data", "--address", nodes.address, PYTHONPATH=str(tmp_path))
    assert "of another version" in said and "2.39.0" in said


@pytest.mark.parametrize(("option", "value"), [("--gpus-per-job", "2"), ("--cpus-per-job", "64")])
def test_a_worker_that_fits_on_no_node(nodes, tmp_path, option, value):
    said = refusal(tmp_path / "data", "--address", nodes.address, option, value)
    assert "the most that a node has is 0 and 1" in said and option in said


def test_nodes_without_the_weights(nodes, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    said = refusal(tmp_path / "data", "--address", nodes.address, models=models)
    assert "has no weights in" in said and str(models) in said
    assert f"python -m wan models --models {models} --download" in said


def report(node, version=None, lacks=()):
    return NodeReport(node, version or pack_version(), dict.fromkeys(lacks, "No model there."))


def test_a_node_with_another_version_of_the_pack_is_named():
    with pytest.raises(UnavailableError, match=r"node b has version 0\.0\.1"):
        check_nodes([report("a"), report("b", "0.0.1")], "models")


def test_a_node_without_any_weights_is_named():
    with pytest.raises(MissingFileError, match="node b has no weights") as raised:
        check_nodes([report("a"), report("b", lacks=APPS)], "models")
    assert "--download" in raised.value.fix


def test_an_app_that_no_node_can_run_is_no_reason_to_refuse_the_other():
    one, other = APPS
    assert check_nodes([report("a", lacks=[one]), report("b")], "models") == {}
    found = check_nodes([report("a", lacks=[one]), report("b", lacks=[one])], "models")
    assert found.keys() == {one} and "--download" in found[one] and other not in found
