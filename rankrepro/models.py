"""Models of language and vision from artifacts: converted once, then loaded in about a second, without the network."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import mmap
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankrepro import passes
from rankrepro.artifacts import Artifact, cache_dir, fetch, install
from rankrepro.errors import ArtifactError, ConfigError, UnknownName

CONVERTER = 1  # part of a converted model's digest: bump it when `convert` writes other weights or another tokenizer
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model ready to be loaded: its artifact id, kind, folder of safetensors and tokenizer, and digest."""

    id: str
    kind: str  # causal-lm | encoder | vision
    folder: Path
    digest: str
    alone: str = ""  # a character that is a token of its own


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in eval mode on `device`. Callers switch gradients off (`torch.inference_mode`) unless they train."""

    model: Any
    tokenizer: Any
    device: str
    dtype: str  # of the weights
    id: str
    products: str  # the dtype in which matrices are multiplied


def digest(artifact: Artifact) -> str:
    """The revision of a model for provenance: the artifact's digest, the path inside, the converter if one is used."""
    entry = _entry(artifact)
    converter = "" if entry.format == "safetensors" else f"+converter{CONVERTER}"
    alone = f"+alone{entry.alone}" if entry.alone else ""
    return f"{artifact.digest}/{entry.path}{converter}{alone}"


def spec(artifact: Artifact, cache: Path | None = None) -> ModelSpec:
    """What `load` needs, fetching and converting the artifact if that has not been done yet."""
    entry = _entry(artifact)
    return ModelSpec(artifact.id, entry.kind, prepare(artifact, cache), digest(artifact), entry.alone)


def folder_name(artifact: Artifact) -> str:
    """Name of a converted model's folder under `cache/models`."""
    return f"{artifact.id}-{hashlib.sha256(digest(artifact).encode()).hexdigest()[:12]}"


def prepare(artifact: Artifact, cache: Path | None = None) -> Path:
    """The folder of safetensors (and tokenizer), converted once to `cache/models/<id>-<12 of digest>` if need be."""
    cache = cache or cache_dir()
    entry = _entry(artifact)
    if entry.format == "safetensors":
        return fetch(artifact, cache) / entry.path

    def build(new: Path, scratch: Path) -> None:
        (convert if entry.format == "gguf" else convert_torch)(fetch(artifact, cache) / entry.path, new)
        (new / "model.json").write_text(json.dumps({"id": artifact.id, "digest": digest(artifact)}))

    return install(
        cache / "models" / folder_name(artifact),
        lambda folder: (folder / "model.json").exists() and (folder / "model.safetensors").exists(),
        build,
        need=8 * artifact.unpacked,  # from about 4.5 bits a weight to 32
        what=f"{artifact.id}, converted to safetensors",
    )


def convert(gguf: Path, new: Path) -> None:
    """Write the dequantised float32 weights and the tokenizer of a GGUF file into the folder `new`."""
    with _quiet():
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        source: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True}
        loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, **source, dtype=torch.float32)
        # A model loaded from GGUF counts as quantised and refuses to be saved: move its weights into a fresh one.
        config = loaded.config
        del config.quantization_config
        fresh = type(loaded)(config)
        fresh.load_state_dict(loaded.state_dict())
        fresh.generation_config = loaded.generation_config
        fresh.save_pretrained(new)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
        _mend(tokenizer, gguf)
        tokenizer.save_pretrained(new)


def convert_torch(weights: Path, new: Path) -> None:
    """Write the tensors of a file of torch, which is pickled, as safetensors; nothing but tensors is let in."""
    import torch
    from safetensors.torch import save_file

    tensors = torch.load(weights, map_location="cpu", weights_only=True)
    save_file({name: t.float().contiguous() for name, t in tensors.items()}, new / "model.safetensors")


def _mend(tokenizer: Any, gguf: Path) -> None:
    """Give the tokenizer the pre-tokenizer that the GGUF names; transformers reads them all as GPT-2's.

    SmolLM2 cuts digits off first, so that "\\n\\n1" is the tokens "\\n\\n", "1" and not "\\n", "\\n", "1".
    """
    from tokenizers import pre_tokenizers

    if _gguf_text(gguf, "tokenizer.ggml.pre") == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )


def _set_apart(tokenizer: Any, character: str) -> None:
    """Cut a character off, with the blank before it, before the tokenizer cuts words.

    Llama 3 joins "[" and a letter: "[A]" is "[A", "]". Identifiers of listwise prompts must be tokens, as elsewhere.
    """
    from tokenizers import Regex, pre_tokenizers

    first = pre_tokenizers.Split(Regex(f" ?{re.escape(character)}"), "isolated")
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence([first, backend.pre_tokenizer])


def _gguf_text(gguf: Path, key: str) -> str:
    """A text of the file's metadata: key, uint32 type (8), uint64 length, bytes. The gguf package takes 5 s for it."""
    with gguf.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        mark = key.encode() + struct.pack("<I", 8)
        if (start := data.find(mark)) < 0:
            return ""
        start += len(mark)
        (length,) = struct.unpack_from("<Q", data, start)
        return data[start + 8 : start + 8 + length].decode()


def imports(artifact: Artifact) -> None:
    """Import what `load` needs for this model, so that these seconds are told from those of loading."""
    import torch  # noqa: F401

    if _entry(artifact).kind != "vision":
        with _quiet():
            from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer  # noqa: F401


def load(spec: ModelSpec, threads: int, dtype: str = "float32", mixed: bool = False) -> LoadedModel:
    """Load model and tokenizer from `spec.folder`, on the GPU if there is one, with attention by SDPA.

    A vision model has no tokenizer.

    `threads` becomes torch's thread count of the whole process. `mixed`: a whole pass of the model multiplies in
    bfloat16 where the device does so natively, weights and sums stay in `dtype`; elsewhere it would be slower than
    float32, and nothing changes. Raises UnknownName for a dtype outside DTYPES, ArtifactError if weights are missing or
    unreadable.
    """
    if dtype not in DTYPES:
        raise UnknownName("dtype", dtype, DTYPES)
    if spec.kind == "vision":
        return _load_vision(spec, threads, dtype)
    with _quiet():
        import torch
        from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(threads)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        auto: Any = AutoModelForCausalLM if spec.kind == "causal-lm" else AutoModel
        try:
            model, info = auto.from_pretrained(
                spec.folder,
                dtype=getattr(torch, dtype),
                attn_implementation="sdpa",
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
            tokenizer = AutoTokenizer.from_pretrained(spec.folder, local_files_only=True)
            if spec.alone:
                _set_apart(tokenizer, spec.alone)
        except (OSError, ValueError) as error:
            raise ArtifactError(
                f"{spec.id}: cannot be loaded: {error}\n  delete {spec.folder} and run again, it will be made anew"
            ) from error
    # transformers would fill them with random numbers; an encoder's pooler is not used
    if missing := sorted(k for k in info["missing_keys"] if not k.startswith("pooler.")):
        raise ArtifactError(f"{spec.id}: {spec.folder} lacks the weights {', '.join(missing[:3])}")
    model = model.to(device).eval()
    products = dtype
    if mixed and passes.multiplies_bfloat16(device):
        model.forward, products = passes.mixed(model.forward, device), "bfloat16"
    if spec.kind == "encoder":  # language models share caches between passes: `cell.map` halves batches of units
        model.forward = passes.in_halves(model.forward, spec.id)
    return LoadedModel(model, tokenizer, device, dtype, spec.id, products)


def _load_vision(spec: ModelSpec, threads: int, dtype: str) -> LoadedModel:
    import torch
    from safetensors.torch import load_file

    from rankrepro.vision import Lite0

    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        model = Lite0(load_file(spec.folder / "model.safetensors"))
    except (OSError, KeyError) as error:
        raise ArtifactError(
            f"{spec.id}: cannot be loaded: {error!r}\n  delete {spec.folder} and run again, it will be made anew"
        ) from error
    model = model.to(device, getattr(torch, dtype)).eval().requires_grad_(False)
    model.forward = passes.in_halves(model.forward, spec.id)  # type: ignore[method-assign]
    return LoadedModel(model, None, device, dtype, spec.id, dtype)


def _entry(artifact: Artifact) -> Any:
    if artifact.model is None:
        raise ConfigError(f"artifact '{artifact.id}' is not a model: it has no `model` in config/artifacts.yaml")
    return artifact.model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no warnings of transformers on the terminal."""
    with contextlib.redirect_stderr(io.StringIO()):
        from transformers.utils import logging

        level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(level)
            if bars:
                logging.enable_progress_bar()
