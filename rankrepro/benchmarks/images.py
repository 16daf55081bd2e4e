"""Benchmarks with pictures: queries, documents or both have one, named by their `image`; a text may ask for a picture.

Some pictures are frames of a walk, and for some it is known where they were taken. That is truth, so their names are
opaque.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rankrepro.benchmarks import base
from rankrepro.benchmarks.base import Benchmark, Truth
from rankrepro.errors import BenchmarkError

IMAGES = "images.zip"


class Images(Mapping[str, np.ndarray]):
    """Image name -> pixels [height, width, 3] uint8, decoded when asked for."""

    def __init__(self, file: Path) -> None:
        if not file.is_file():
            raise BenchmarkError(f"{file} is missing: delete {file.parent} and run again, it will be rebuilt")
        self.archive = zipfile.ZipFile(file)
        self.names = [name.removesuffix(".png") for name in self.archive.namelist()]

    def __getitem__(self, name: str) -> np.ndarray:
        from PIL import Image

        return np.array(Image.open(io.BytesIO(self.png(name))).convert("RGB"))

    def png(self, name: str) -> bytes:
        """The image as it is stored."""
        return self.archive.read(f"{name}.png")

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class ImageBenchmark(Benchmark):
    """images: name -> pixels. walks: walk -> names of its frames, in order, one step apart; empty where there are none.

    A frame that is a query or document has the id that its picture has as a name.
    """

    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    walks: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageTruth(Truth):
    """poses: name -> where a picture was taken (level, x, y, angle, condition), if that is known. walks: as there."""

    poses: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    walks: Mapping[str, Sequence[str]] = field(default_factory=dict)


def windows(walks: Mapping[str, Sequence[str]], length: int) -> dict[str, list[str]]:
    """Frame -> the `length` (odd) frames around it, for frames with enough of them on both sides."""
    half = length // 2
    return {
        frames[i]: list(frames[i - half : i + half + 1])
        for frames in walks.values()
        for i in range(half, len(frames) - half)
    }


def write(folder: Path, benchmark: ImageBenchmark, truth: ImageTruth) -> None:
    """Inputs as `base.write`, with `images.zip` and `walks.json`; poses to `truth/`. `folder` must exist."""
    base.write(folder, benchmark, truth)
    (folder / "walks.json").write_text(json.dumps(benchmark.walks, sort_keys=True, indent=0))
    (folder / "truth" / "poses.json").write_text(json.dumps(truth.poses, sort_keys=True, indent=0))
    with zipfile.ZipFile(folder / IMAGES, "w") as archive:  # stored: pictures are compressed already
        for name in sorted(benchmark.images):
            # dated 1980, so that the bytes are always the same
            archive.writestr(zipfile.ZipInfo(f"{name}.png"), encoded(benchmark.images[name]))


def encoded(pixels: np.ndarray) -> bytes:
    """Lossless PNG of pixels [height, width, 3] uint8; half the size where 256 colours are enough."""
    from PIL import Image

    colours, index = np.unique(pixels.astype(np.uint32) @ (1 << 16, 1 << 8, 1), return_inverse=True)
    if len(colours) > 256:
        image = Image.fromarray(pixels)
    else:
        image = Image.fromarray(index.reshape(pixels.shape[:2]).astype(np.uint8))
        image.putpalette(np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1).astype(np.uint8).tobytes())
    data = io.BytesIO()
    image.save(data, "PNG", compress_level=3)
    return data.getvalue()


def read(folder: Path, benchmark_id: str) -> ImageBenchmark:
    """Inputs only: this never opens `folder/truth`."""
    plain = base.read(folder, benchmark_id)
    return ImageBenchmark(
        plain.id, plain.queries, plain.corpus, plain.judgments, Images(folder / IMAGES), _walks(folder)
    )


def read_truth(folder: Path) -> ImageTruth:
    """Truth, for the judge alone."""
    plain = base.read_truth(folder)
    poses = json.loads((folder / "truth" / "poses.json").read_text())
    return ImageTruth(plain.qrels, plain.clusters, poses, _walks(folder))


def _walks(folder: Path) -> dict[str, list[str]]:
    return json.loads((folder / "walks.json").read_text())
