"""What a card registers before the first run of a scale, and since which commit it stands."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from typing import Any

import yaml

from rankrepro.cards import ROOT, Card
from rankrepro.store import digest_of

REGISTERED = ("arms", "stages", "split", "claims", "timings")  # and what the card says of the scale


def registration(data: Mapping[str, Any], scale: str) -> str:
    """Hash of what must stand before the first run of a scale: claims, arms, stages, splits, benchmarks, timings."""
    of_scale = {k: data.get(k, {}).get(scale) for k in ("benchmarks", "scales", "models")}
    return digest_of({k: data.get(k) for k in REGISTERED} | of_scale)


def claims_commit(card: Card, scale: str) -> str | None:
    """The commit since which the card's registered part stands as it does now; None if it is not committed."""
    path = card.file.relative_to(ROOT).as_posix() if card.file.is_relative_to(ROOT) else None
    if not path:
        return None
    now, found = registration(card.data, scale), None
    for commit in (git("log", "--format=%H", "--", path) or "").split():
        text = git("show", f"{commit}:{path}")
        if text is None or registration(yaml.safe_load(text), scale) != now:
            break
        found = commit
    return found


def git(*args: str) -> str | None:
    """Output of a git command in the project, None where there is no git or no repository."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *args], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
