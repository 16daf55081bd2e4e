"""Scales: config/scales/<name>.yaml, which say how large a run is and on what it runs."""

from __future__ import annotations

from typing import Any

from rankrepro.cards import ROOT, load_yaml, validate
from rankrepro.errors import UnknownName

SCALES = ROOT / "config" / "scales"


def scales() -> list[str]:
    return sorted(f.stem for f in SCALES.glob("*.yaml"))


def load_scale(name: str) -> dict[str, Any]:
    """A scale; one with `like` takes what it does not say itself from that other scale."""
    file = SCALES / f"{name}.yaml"
    if not file.exists():
        raise UnknownName("scale", name, scales())
    data = load_yaml(file)
    if isinstance(data, dict) and "like" in data:
        data = load_scale(data["like"]) | data
    validate(data, "scale", f"config/scales/{name}.yaml")
    return data
