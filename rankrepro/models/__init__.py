"""Models of language and vision from artifacts: converted once, then loaded in about a second, without the network.

What differs between kinds of models is in `rankrepro.models.kinds`, a module for each.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path
from types import ModuleType

from rankrepro import passes
from rankrepro.artifacts import Artifact, ModelEntry, cache_dir, fetch, install
from rankrepro.code import Code, Definition
from rankrepro.errors import ArtifactError, ConfigError, UnknownName
from rankrepro.models.conversion import CONVERSIONS
from rankrepro.models.types import LoadedModel, ModelSpec

__all__ = ["LoadedModel", "ModelSpec", "digest", "folder_name", "imports", "kind", "load", "prepare"]
__all__ += ["revision", "spec"]

CONVERTER = 1  # part of a converted model's digest: bump it when a conversion writes other weights or another tokenizer
DTYPES = ("float32", "bfloat16", "float16")
BYTES = {"float32": 4, "bfloat16": 2}
CODE = Code(("rankrepro.models", "rankrepro.passes"))


def kind(name: str) -> ModuleType:
    """The module of a kind; names are checked when config/artifacts.yaml is read."""
    return importlib.import_module(f"rankrepro.models.kinds.{name.replace('-', '_')}")


def digest(artifact: Artifact) -> str:
    """What determines what a model computes: its revision, and the code that loads and runs models of its kind."""
    return f"{revision(artifact)}+{CODE.digest(Definition(kind(_entry(artifact).kind).__name__, 'load'))[:16]}"


def revision(artifact: Artifact) -> str:
    """The files of a model: the artifact's digest, the path inside, the converter if one is used."""
    entry = _entry(artifact)
    converter = f"+converter{CONVERTER}" if entry.format in CONVERSIONS else ""
    tied = "+tied" if entry.tied else ""
    stored = f"+{entry.stored}" if entry.stored != "float32" else ""
    return f"{artifact.digest}/{entry.path}{converter}{tied}{stored}"


def spec(artifact: Artifact, cache: Path | None = None) -> ModelSpec:
    """What `load` needs, fetching and converting the artifact if that has not been done yet."""
    entry = _entry(artifact)
    return ModelSpec(artifact.id, entry.kind, prepare(artifact, cache), digest(artifact))


def folder_name(artifact: Artifact) -> str:
    """Name of a converted model's folder under `cache/models`: code that reads it may change without a conversion."""
    return f"{artifact.id}-{hashlib.sha256(revision(artifact).encode()).hexdigest()[:12]}"


def prepare(artifact: Artifact, cache: Path | None = None) -> Path:
    """The folder of safetensors (and tokenizer), converted once to `cache/models/<folder_name>` if necessary."""
    cache = cache or cache_dir()
    entry = _entry(artifact)
    if entry.format not in CONVERSIONS:
        return fetch(artifact, cache) / entry.path

    def build(new: Path, scratch: Path) -> None:
        CONVERSIONS[entry.format](fetch(artifact, cache) / entry.path, new, entry)
        (new / "model.json").write_text(json.dumps({"id": artifact.id, "digest": revision(artifact)}))

    return install(
        cache / "models" / folder_name(artifact),
        lambda folder: (folder / "model.json").exists() and (folder / "model.safetensors").exists(),
        build,
        need=entry.parameters * BYTES[entry.stored] or 8 * artifact.unpacked,  # from about 4.5 bits a weight to 32
        what=f"{artifact.id}, converted to safetensors",
    )


def imports(artifact: Artifact) -> None:
    """Import what `load` needs for this model, so that these seconds are counted apart from those of loading."""
    kind(_entry(artifact).kind).imports()


def load(spec: ModelSpec, threads: int, dtype: str = "float32", mixed: bool = False) -> LoadedModel:
    """The model of `spec.folder`, on the GPU if there is one.

    `threads` becomes torch's thread count of the whole process. `mixed`: a whole pass of the model multiplies in
    bfloat16 where the device does so natively, weights and sums stay in `dtype`; elsewhere it would be slower than
    float32, and nothing changes. Raises UnknownName for a dtype outside DTYPES, ArtifactError if weights are missing or
    unreadable.
    """
    if dtype not in DTYPES:
        raise UnknownName("dtype", dtype, DTYPES)
    import torch

    torch.set_num_threads(threads)
    passes.multiply_exactly(dtype)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return kind(spec.kind).load(spec, device, dtype, mixed)
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(
            f"{spec.id}: cannot be loaded: {error!r}\n  delete {spec.folder} and run again, it will be made again"
        ) from error


def _entry(artifact: Artifact) -> ModelEntry:
    if artifact.model is None:
        raise ConfigError(f"artifact '{artifact.id}' is not a model: it has no `model` in config/artifacts.yaml")
    return artifact.model
