"""The house: rooms by stage, imports one way, small files, nothing heavy at import."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ["load", "encode", "preprocess", "sample", "decode", "upsample", "save", "service"]
# Above all rooms: they may import any of them.
ROOF = {"animate", "app", "cli.py", "terminal.py", "__main__.py", "tiny", "serve.py", "worker.py"}
ROOF |= {
    "client.py",
    "remote.py",
    "inventory",
    "miniatures.py",
    "engine.py",
    "runs.py",
    "runner.py",
    "child.py",
    "rank.py",
    "cluster",
}
HOST = {
    "comfy",
    "comfy_api",
    "comfy_execution",
    "folder_paths",
    "server",
    "nodes",
    "latent_preview",
}
HEAVY = {"diffusers", "transformers", "peft", "onnxruntime", "cv2", "av", "sentencepiece", "ftfy"}
SOURCES = sorted([*ROOT.glob("*.py"), *ROOT.glob("wan/**/*.py"), *ROOT.glob("nodes/**/*.py")])
TRAINING = sorted(ROOT.glob("training/*.py"))
# The only files that may import ComfyUI's own modules, beside its public `comfy_api`.
DOORS = {
    "nodes/host.py",
    "nodes/host_memory.py",
    "nodes/host_pictures.py",
    "nodes/host_progress.py",
    "nodes/host_server.py",
}
ROOF |= {"capacity"}
FILE_LINES, FUNCTION_LINES = 400, 60


def tree(path):
    return ast.parse(path.read_text("utf8"))


def imports(path, top_level_only=False):
    """(level, dotted name) of each import."""
    root = tree(path)
    for node in root.body if top_level_only else ast.walk(root):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


def target(path, level, name):
    """The parts, below the root, of what a relative import names."""
    base = path.relative_to(ROOT).parent.parts
    return (*base[: len(base) - level + 1], *(name.split(".") if name else ()))


def position(parts):
    """Place of a module of wan/ in the order of imports: foundation, rooms, roof."""
    room = parts[1] if len(parts) > 1 else ""
    if room in ROOMS:
        return ROOMS.index(room)
    return len(ROOMS) if room in ROOF or f"{room}.py" in ROOF else -1


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path):
    parts = path.relative_to(ROOT).parts
    for level, name in imports(path):
        if level == 0:
            assert parts[0] != "wan" or name.split(".")[0] not in HOST, name
            assert name.split(".")[0] not in {"wan", "nodes", "training"}, (
                "imports inside are relative"
            )
            continue
        reached = target(path, level, name)
        if parts[0] == "wan":
            assert reached[0] == "wan", name
            assert position(reached) <= position(parts), f"{path}: {name}"
        if parts[0] == "nodes":
            assert reached[0] in {"wan", "nodes"}, name


@pytest.mark.parametrize("path", sorted(ROOT.glob("nodes/**/*.py")), ids=lambda p: p.name)
def test_only_one_door_leads_to_comfyui(path):
    allowed = HOST if path.relative_to(ROOT).as_posix() in DOORS else {"comfy_api"}
    found = {name.split(".")[0] for level, name in imports(path) if level == 0}
    assert found & HOST <= allowed


@pytest.mark.parametrize("path", [*SOURCES, *TRAINING], ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_are_small(path):
    assert len(path.read_text("utf8").splitlines()) <= FILE_LINES
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert node.name == "define_schema" or length <= FUNCTION_LINES, node.name


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_packages_are_imported_where_they_are_used(path):
    found = {name.split(".")[0] for _, name in imports(path, top_level_only=True)}
    assert not found & HEAVY


def run_python(code, **options):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, **options
    )


LOAD_PACK = """
import importlib.util, json, sys, torch
sys.path.insert(0, {standin!r})
before = set(sys.modules)
spec = importlib.util.spec_from_file_location(
    "wan_local", {init!r}, submodule_search_locations=[{root!r}])
module = importlib.util.module_from_spec(spec)
sys.modules["wan_local"] = module
spec.loader.exec_module(module)
import asyncio
asyncio.run(asyncio.run(module.comfy_entrypoint()).get_node_list())
print(json.dumps(sorted({{name.split(".")[0] for name in set(sys.modules) - before}})))
"""


def test_importing_the_pack_brings_in_nothing_heavy(tmp_path):
    standin = ROOT / "tests" / "host" / "standin"
    code = LOAD_PACK.format(standin=str(standin), init=str(ROOT / "__init__.py"), root=str(ROOT))
    done = run_python(code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    # The stand-in itself imports av at load time, as the real host does.
    assert not (HEAVY - {"av"}) & set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_library_brings_in_nothing_heavy():
    code = (
        "import sys, torch; before = set(sys.modules); import wan, wan.params, wan.app, wan.cli, "
        "wan.terminal, wan.load.model; print(*{n.split('.')[0] for n in set(sys.modules) - before})"
    )
    done = run_python(code, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert not HEAVY & set(done.stdout.split())


def test_tests_are_collected_in_a_folder_with_a_hyphen(tmp_path):
    copy = tmp_path / "ComfyUI-WanLocal-main"
    (copy / "tests" / "host").mkdir(parents=True)
    for name in ("__init__.py", "pyproject.toml"):
        shutil.copy(ROOT / name, copy / name)
    for folder in ("wan", "nodes", "tests/host", "tests/service", "tests/cluster"):
        shutil.copytree(ROOT / folder, copy / folder, dirs_exist_ok=True)
    for name in ("conftest.py", "forwards.py", "test_geometry.py"):
        shutil.copy(ROOT / "tests" / name, copy / "tests" / name)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/test_geometry.py", "-k", "a19"],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_ruff_is_content(command):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_requirements_have_lower_bounds_only():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert all(">=" in line and "," not in line and "==" not in line for line in wanted)
    names = [line.split(">=")[0] for line in wanted]
    assert sum(name.startswith("opencv") for name in names) <= 1
    owned_by_the_host = {"torch", "numpy", "pillow", "transformers", "safetensors", "av", "einops"}
    assert not owned_by_the_host & {name.lower() for name in names}


def test_nodes_can_be_found_by_a_scanner_that_only_reads():
    """ComfyUI Manager lists V3 nodes by syntax: direct base, and a literal id in `Schema(...)`."""
    found = []
    for path in ROOT.glob("nodes/*.py"):
        for node in tree(path).body:
            if not isinstance(node, ast.ClassDef) or not node.name.startswith("WanLocal"):
                continue
            if node.name == "WanLocalExtension":
                continue
            assert [ast.unparse(base) for base in node.bases] == ["io.ComfyNode"]
            calls = [n for n in ast.walk(node) if isinstance(n, ast.Call)]
            schema = next(c for c in calls if ast.unparse(c.func).endswith("Schema"))
            literal = next(k.value.value for k in schema.keywords if k.arg == "node_id")
            assert literal == node.name
            found.append(literal)
    listed = json.loads((ROOT / "node_list.json").read_text("utf8"))
    assert sorted(listed) == sorted(found)
