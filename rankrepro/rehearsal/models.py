"""Stand-ins of the hub's models: what each kind makes in miniature, laid out as the hub's cache has it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from string import ascii_uppercase

from rankrepro import models
from rankrepro.artifacts import Artifact
from rankrepro.rehearsal.text import Writer


def make(entries: Iterable[Artifact], hub: Path) -> None:
    """The snapshot of every hub model in the cache folder `hub`. ConfigError for a model that has no stand-in."""
    texts = _texts()
    for artifact in entries:
        assert artifact.model is not None
        with tempfile.TemporaryDirectory() as scratch:
            models.kind(artifact.model.kind).stand_in(artifact, texts, Path(scratch))
            _publish(artifact, Path(scratch), hub)


def _texts() -> list[str]:
    """What tokenizers are trained on: invented text, the words that prompts need as single tokens, and letters in
    brackets so often that a bracket and a letter become one token, as they are in Llama 3."""
    writer = Writer("tokenizer", 12)
    spoken = [f"Yes {word} yes {word} YES No no NO" for word in ("Passage", "Query")] * 500
    spoken += [f"[{letter}] >" for letter in ascii_uppercase] * 500
    return spoken + [f"{text.title}. {text.body}" for text in (writer.document(i % 12) for i in range(120))]


def _publish(artifact: Artifact, files: Path, hub: Path) -> None:
    """`models--<owner>--<name>`: blobs named by their hash, a snapshot of links to them, `main` pointing to it."""
    repository = hub / f"models--{artifact.name.replace('/', '--')}"
    snapshot = repository / "snapshots" / artifact.revision
    for folder in (repository / "blobs", repository / "refs", snapshot):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text(artifact.revision)
    for file in sorted(files.iterdir()):
        data = file.read_bytes()
        large = file.suffix == ".safetensors"  # large files go by sha256, small ones by git's sha1
        blob = data if large else b"blob %d\0" % len(data) + data
        name = hashlib.new("sha256" if large else "sha1", blob, usedforsecurity=False).hexdigest()
        (repository / "blobs" / name).write_bytes(data)
        os.symlink(Path("..", "..", "blobs", name), snapshot / file.name)
