"""Find the parts of a model in the three ways people keep them on disk."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from ..errors import MissingFileError, ModelError, WanError
from ..payloads import Variant
from .catalog import suggestion
from .header import INDEX_SUFFIX, Header, find_weights, read_header
from .inspect import EXAMPLE_TRANSFORMERS, Kind, expect, find_variant
from .tokenizer import SPIECE_TENSOR, find_tokenizer


@dataclass(frozen=True)
class ModelFiles:
    """Where the parts of one model are. Each is a file, a shard index or a folder."""

    transformer: Path
    vae: Path | None = None
    text_encoder: Path | None = None
    image_encoder: Path | None = None
    tokenizer: Path | None = None
    """None: carried by the text encoder's file, as in ComfyUI's."""

    def replacing(self, **parts: Path) -> ModelFiles:
        """The same files but for those named; a tokenizer stays with its text encoder."""
        tokenizer = self.tokenizer
        if "text_encoder" in parts:
            own = _comfy_tokenizer(parts["text_encoder"].parent, parts["text_encoder"])
            tokenizer = own or self.tokenizer
        return replace(replace(self, tokenizer=tokenizer), **parts)


COMFY_FOLDERS = {
    "transformer": ("diffusion_models", "unet"),
    "vae": ("vae",),
    "text_encoder": ("text_encoders", "clip"),
    "image_encoder": ("clip_vision",),
}
"""Where ComfyUI keeps each part (folder_paths.py: names of folders and their older names)."""
# File names in the authors' folders, safetensors first
# (Wan-Video/Wan2.1 wan/configs: t5_checkpoint, clip_checkpoint, vae_checkpoint, t5_tokenizer)
_OFFICIAL_FILES = {
    "vae": ("Wan2.1_VAE*.safetensors", "Wan2.1_VAE*.pth"),
    "text_encoder": ("models_t5*.safetensors", "models_t5*.pth"),
    "image_encoder": ("models_clip*.safetensors", "models_clip*.pth"),
}
_OFFICIAL_TOKENIZER = ("google", "umt5-xxl")
_OFFICIAL_WEIGHTS = "diffusion_pytorch_model"
_SUFFIXES = (".safetensors", ".gguf")
"""Of files in ComfyUI's folders."""
_SHARD = re.compile(r"-\d+-of-\d+\.safetensors$")
_DEEPEST = 4  # people sort diffusion_models/ into folders of folders
KINDS = {
    "transformer": Kind.TRANSFORMER,
    "vae": Kind.VAE,
    "text_encoder": Kind.TEXT_ENCODER,
    "image_encoder": Kind.IMAGE_ENCODER,
}
"""What a file must be to serve as each part."""
PARTS = tuple(KINDS)
"""Names of the parts that are weights."""
_Wanted = tuple[Variant, ...]
"""Kinds of transformers that will do, best first; empty: any, if there is only one."""
_Finder = Callable[[Path, _Wanted], ModelFiles]


def find_files(folder: Path, variant: Variant | _Wanted | None = None) -> ModelFiles:
    """Find all parts of one model.

    Args:
        folder: a Diffusers folder (`transformer/`, `vae/`, ...), a folder of the model's
            authors (`diffusion_pytorch_model*`, `models_t5*`, ...), a ComfyUI models folder
            (`diffusion_models/`, `text_encoders/`, ...), a folder of several of the first two,
            or one transformer file inside a ComfyUI models folder.
        variant: which kind of transformer is wanted, or several, best first; None if there is
            only one.
    Raises:
        MissingFileError: the folder, or parts of the model, are not there; names all of them.
        ModelError: several files could be meant, or the only one cannot be used.
    """
    folder, wanted = Path(folder), _as_wanted(variant)
    if not folder.exists():
        raise MissingFileError(
            what=f"'{folder}' is not there.",
            why="The model's files are looked for in it.",
            fix="Check the path, or use 'mini' to try without a model.",
        )
    if folder.is_file():
        return _around_file(folder)
    finder = _finder_of(folder)
    if finder is not None:
        return finder(folder, wanted)
    children = [c for c in sorted(folder.iterdir()) if c.is_dir() and _finder_of(c)]
    if children:
        return _choose_child(folder, children, wanted)
    raise MissingFileError(
        what=f"No Wan model is in '{folder}'.",
        why="None of the known layouts fits: Diffusers (transformer/, vae/, text_encoder/, "
        "image_encoder/, tokenizer/), the authors' (diffusion_pytorch_model*.safetensors, "
        "Wan2.1_VAE.pth, models_t5*.pth, models_clip*.pth, google/umt5-xxl/) or ComfyUI's "
        "(diffusion_models/, vae/, text_encoders/, clip_vision/).",
        fix="Put the files there, choose another folder, or use 'mini' to try without a model.",
    )


def _as_wanted(variant: Variant | _Wanted | None) -> _Wanted:
    if variant is None:
        return ()
    return (variant,) if isinstance(variant, Variant) else tuple(variant)


def _finder_of(folder: Path) -> _Finder | None:
    if (folder / "transformer").is_dir() or (folder / "model_index.json").is_file():
        return _find_diffusers
    official = (f"{_OFFICIAL_WEIGHTS}*.safetensors*", *_OFFICIAL_FILES["text_encoder"])
    # a lone part (a Diffusers "vae" folder) has such weights too, but no other part beside them
    is_part = folder.name in {field.name for field in fields(ModelFiles)}
    if not is_part and any(next(folder.glob(p), None) for p in official):
        return _find_official
    names = [name for part in COMFY_FOLDERS.values() for name in part if name != "vae"]
    if any((folder / name).is_dir() for name in names):
        return _find_comfy
    if (folder / "models").is_dir() and _finder_of(folder / "models") is _find_comfy:
        return lambda root, wanted: _find_comfy(root / "models", wanted)
    return None


def _find_diffusers(folder: Path, wanted: _Wanted) -> ModelFiles:
    found: dict[str, Path] = {}
    missing: list[str] = []
    for part in KINDS:
        try:
            find_weights(folder / part)
            found[part] = folder / part
        except MissingFileError as error:
            missing.append(f"{part}: {error.what}")
    try:
        found["tokenizer"] = find_tokenizer(folder / "tokenizer")
    except MissingFileError as error:
        missing.append(f"tokenizer: {error.what}")
    _report(folder, missing)
    files = ModelFiles(**found)
    _expect_wanted(files.transformer, wanted)
    return files


def _find_official(folder: Path, wanted: _Wanted) -> ModelFiles:
    found: dict[str, Path] = {}
    missing: list[str] = []
    weights = [folder / (_OFFICIAL_WEIGHTS + end) for end in (INDEX_SUFFIX, ".safetensors")]
    transformer = next((path for path in weights if path.is_file()), None)
    if transformer is None:
        missing.append(f"transformer: looked for {weights[0].name} and {weights[1].name}")
    else:
        found["transformer"] = transformer
    for part, patterns in _OFFICIAL_FILES.items():
        matches = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
        if matches:
            found[part] = matches[0]
        else:
            missing.append(f"{part}: looked for {' and '.join(patterns)}")
    try:
        found["tokenizer"] = find_tokenizer(folder.joinpath(*_OFFICIAL_TOKENIZER))
    except MissingFileError as error:
        missing.append(f"tokenizer: {error.what}")
    _report(folder, missing)
    files = ModelFiles(**found)
    _expect_wanted(files.transformer, wanted)
    return files


def _find_comfy(folder: Path, wanted: _Wanted, transformer: Path | None = None) -> ModelFiles:
    candidates = {
        part: [path for name in names for path in weight_files(folder / name)]
        for part, names in COMFY_FOLDERS.items()
    }
    if transformer:
        candidates["transformer"] = [transformer]
    return gather_files(candidates, wanted, folder)


def weight_files(folder: Path) -> list[Path]:
    """Files in a folder of ComfyUI's, and in the folders in it, that may hold weights.

    What lies in hidden folders, such as a download that has begun, is passed over.
    """
    paths = (path for suffix in _SUFFIXES for path in folder.rglob(f"*{suffix}"))
    return sorted(p for p in paths if not any(n[0] == "." for n in p.relative_to(folder).parts))


def gather_files(
    candidates: Mapping[str, Sequence[Path]],
    variant: Variant | _Wanted | None = None,
    folder: Path | None = None,
) -> ModelFiles:
    """Choose one fitting file for each part by what the files hold.

    Args:
        candidates: files that may serve, by part.
        variant: which kind of transformer is wanted, or several, best first; None if there is
            only one.
        folder: the models folder they are in, for error texts and a tokenizer in it.
    Raises:
        MissingFileError: no file serves as some part; names all of those parts.
        ModelError: several files could serve as one part.
    """
    wanted = _as_wanted(variant)
    found: dict[str, Path] = {}
    missing: list[str] = []
    for part, names in COMFY_FOLDERS.items():
        matches, refused = _sort_candidates(candidates[part], KINDS[part], wanted)
        if len(matches) > 1:
            raise _ambiguous(folder, part, matches, wanted)
        if matches:
            found[part] = matches[0].path
        else:
            reasons = "; ".join(refused) or "it holds no .safetensors or .gguf file"
            example = suggestion(part, wanted)
            missing.append(f"{part}: nothing fitting in {names[0]}/ ({reasons}); {example}")
    text_encoder = found.get("text_encoder")
    if text_encoder:
        tokenizer = _comfy_tokenizer(folder or text_encoder.parent, text_encoder)
        if tokenizer:
            found["tokenizer"] = tokenizer
        else:
            missing.append(f"tokenizer: neither in {text_encoder.name} nor in tokenizer/")
    _report(folder or Path("models"), missing)
    return ModelFiles(**found)


def _sort_candidates(
    paths: Sequence[Path], kind: Kind, wanted: _Wanted
) -> tuple[list[Header], list[str]]:
    """Headers of the files that fit best, and for each useless one why it does not fit."""
    ranked: list[tuple[int, Header]] = []
    refused: list[str] = []
    for path in paths:
        try:
            header = read_header(path)
            identity = expect(header, kind)
            variant = find_variant(identity) if kind is Kind.TRANSFORMER else None
        except WanError as error:
            refused.append(error.what.rstrip("."))
            continue
        if variant is None or not wanted:
            ranked.append((0, header))
        elif variant in wanted:
            ranked.append((wanted.index(variant), header))
        else:
            refused.append(f"'{path.name}' is for {variant.value}")
    best = min((rank for rank, _ in ranked), default=0)
    return [header for rank, header in ranked if rank == best], refused


def _comfy_tokenizer(folder: Path, text_encoder: Path | None) -> Path | None:
    if text_encoder and SPIECE_TENSOR in read_header(text_encoder).tensors:
        return text_encoder
    beside = [text_encoder.parent / "tokenizer"] if text_encoder else []
    for place in (*beside, folder / "tokenizer"):
        try:
            return find_tokenizer(place)
        except MissingFileError:
            continue
    return _borrowed_tokenizer(text_encoder) if text_encoder else None


def _borrowed_tokenizer(text_encoder: Path) -> Path | None:
    """Another UMT5 of the same vocabulary in the folder that carries a tokenizer.

    kijai's and GGUF files carry none, and ComfyUI's often lie beside them.
    """
    vocabulary = expect(read_header(text_encoder), Kind.TEXT_ENCODER).header.shape("shared.weight")
    for path in sorted(text_encoder.parent.glob("*.safetensors")):
        try:
            header = read_header(path)
            if SPIECE_TENSOR in header.tensors:
                identity = expect(header, Kind.TEXT_ENCODER)
                if identity.header.shape("shared.weight") == vocabulary:
                    return path
        except WanError:
            continue
    return None


def _around_file(file: Path) -> ModelFiles:
    """The other parts beside a transformer file that was named itself."""
    if _SHARD.search(file.name):
        file = find_weights(file.parent)  # one shard was picked; the index knows all
    expect(read_header(file), Kind.TRANSFORMER)
    for folder in list(file.parents)[:_DEEPEST]:
        finder = _finder_of(folder)
        if finder is _find_comfy and file.parent != folder:
            return _find_comfy(folder, (), transformer=file)
        if finder is not None and finder in (_find_diffusers, _find_official):
            return finder(folder, ())
    raise MissingFileError(
        what=f"The other parts of the model are not found around '{file}'.",
        why="A transformer alone makes no video: it needs a VAE, a text and an image encoder.",
        fix="Put the file into diffusion_models/ of a ComfyUI models folder with vae/, "
        "text_encoders/ and clip_vision/ beside it, or name the parts one by one.",
    )


def _choose_child(folder: Path, children: list[Path], wanted: _Wanted) -> ModelFiles:
    ranked: list[tuple[int, Path]] = []
    refused: list[str] = []
    for child in children:
        try:
            found = list(_variants_in(child))
        except WanError as error:
            refused.append(f"'{child.name}': {error.what}")
            continue
        ranks = [wanted.index(variant) for variant in found if variant in wanted]
        if ranks or not wanted:
            ranked.append((min(ranks, default=0), child))
        else:
            refused.append(f"'{child.name}' is for {', '.join(v.value for v in found)}")
    best = min((rank for rank, _ in ranked), default=0)
    fitting = [child for rank, child in ranked if rank == best]
    if len(fitting) == 1:
        return find_files(fitting[0], wanted)
    if fitting:
        raise ModelError(
            what=f"'{folder}' holds {len(fitting)} models that could be meant: "
            f"{', '.join(child.name for child in fitting)}.",
            why="Only one can be loaded.",
            fix="Choose the folder of the model itself.",
        )
    raise MissingFileError(
        what=f"No model{_for(wanted)} is in '{folder}': {'; '.join(refused)}.",
        why="Each app needs weights of its kind.",
        fix=EXAMPLE_TRANSFORMERS,
    )


def _variants_in(folder: Path) -> Iterator[Variant]:
    """Kinds of the transformers in a model folder, whatever its layout."""
    if _finder_of(folder) is _find_diffusers:
        paths = [folder / "transformer"]
    elif _finder_of(folder) is _find_official:
        paths = [find_weights(folder)]
    else:
        paths = [p for n in COMFY_FOLDERS["transformer"] for p in weight_files(folder / n)]
    for path in paths:
        yield find_variant(expect(read_header(path), Kind.TRANSFORMER))


def _expect_wanted(transformer: Path, wanted: _Wanted) -> None:
    header = read_header(transformer)
    found = find_variant(expect(header, Kind.TRANSFORMER))
    if wanted and found not in wanted:
        raise ModelError(
            what=f"'{header.name}' is a model for {found.value}.",
            why=f"A model{_for(wanted)} is needed here.",
            fix=EXAMPLE_TRANSFORMERS,
        )


def _for(wanted: _Wanted) -> str:
    return f" for {' or '.join(variant.value for variant in wanted)}" if wanted else ""


def _ambiguous(
    folder: Path | None, part: str, matches: list[Header], wanted: _Wanted
) -> ModelError:
    folder = folder or Path("models", COMFY_FOLDERS[part][0])
    lines = [f"'{header.path.name}'" for header in matches]
    purpose = _for(wanted) if part == "transformer" else ""
    return ModelError(
        what=f"'{folder}' holds {len(matches)} files that can be the {part}{purpose}: "
        f"{', '.join(lines)}.",
        why="Only one can be loaded, and choosing by name would be a guess.",
        fix="Name the file itself.",
    )


def _report(folder: Path, missing: list[str]) -> None:
    if missing:
        count = len(missing)
        lines = "\n".join(f"  {line}" for line in missing)
        raise MissingFileError(
            what=f"{count} part{'s' if count > 1 else ''} of the model in '{folder}' "
            f"cannot be used:\n{lines}",
            why="A Wan model needs all of its parts.",
            fix="Download the listed parts into the places named; `python -m wan models` lists all "
            "files with their sources, and fetches them if asked (--download).",
        )
