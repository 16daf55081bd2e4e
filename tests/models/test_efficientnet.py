"""EfficientNet-lite0: converted once without its pickle, and the same numbers as the package it comes from."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from rankrepro import models
from rankrepro.artifacts import load_catalogue
from rankrepro.errors import ArtifactError
from rankrepro.models import ModelSpec

ARTIFACT = load_catalogue()["efficientnet-lite0"]


@pytest.fixture(scope="module")
def loaded():
    return models.load(models.spec(ARTIFACT), threads=1)


def test_converted_once_and_named_by_its_digest() -> None:
    folder = models.prepare(ARTIFACT)
    assert json.loads((folder / "model.json").read_text()) == {"id": ARTIFACT.id, "digest": models.revision(ARTIFACT)}
    assert sorted(f.name for f in folder.iterdir()) == ["model.json", "model.safetensors"]
    assert models.revision(ARTIFACT).endswith(f"+converter{models.CONVERTER}")


@torch.inference_mode()
def test_the_map_is_that_of_the_package_the_weights_come_from(loaded) -> None:
    from efficientnet_lite_pytorch import EfficientNet

    reference = EfficientNet.from_name("efficientnet-lite0")
    reference.load_state_dict(load_file(models.prepare(ARTIFACT) / "model.safetensors"))
    x = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))  # the size it pads rightly
    assert torch.allclose(loaded.model(x), reference.eval().extract_features(x), atol=1e-4)


@torch.inference_mode()
def test_it_sees(loaded) -> None:
    """scikit-learn ships two photographs: a Chinese palace (class 698 of ImageNet) and a flower (985, a daisy)."""
    import numpy as np
    from sklearn.datasets import load_sample_images

    for image, expected in zip(load_sample_images().images, (698, 985), strict=True):
        x = torch.tensor(np.ascontiguousarray(image[60:420, 100:580])).permute(2, 0, 1)[None].float()
        x = torch.nn.functional.interpolate(x, (224, 224), mode="bilinear", antialias=True)
        features = loaded.model((x - 127) / 128)
        assert loaded.model.classifier(features.mean((2, 3))).argmax().item() == expected


def test_missing_weights_are_named(tmp_path) -> None:
    with pytest.raises(ArtifactError, match=r"efficientnet-lite0(?s:.*)made again"):
        models.load(ModelSpec("efficientnet-lite0", "vision", tmp_path, "x"), threads=1)


def test_any_size_is_padded_like_tensorflow(loaded) -> None:
    for h, w in ((192, 256), (136, 181), (271, 362)):
        shape = loaded.model(torch.zeros(1, 3, h, w)).shape
        assert shape == (1, 1280, -(-h // 32), -(-w // 32))
