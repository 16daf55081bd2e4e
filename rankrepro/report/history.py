"""What git knows of a card's claims: when they were registered, and what changed since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from rankrepro.cards import ROOT, Card
from rankrepro.judge.registration import REGISTERED, git, registration

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Change:
    """One commit that changed the registered part of a card."""

    commit: str
    time: float  # seconds since 1970, of the author
    date: str
    subject: str
    what: tuple[str, ...]


def changes(card: Card, scale: str) -> list[Change] | None:
    """Commits that changed what the card registers at `scale`, newest first; None where there is no history of it."""
    path = card.file.relative_to(ROOT).as_posix() if card.file.is_relative_to(ROOT) else None
    commits = _log().get(path or "", [])
    if not commits:
        return None
    found: list[Change] = []
    before: Mapping[str, Any] = {}
    for commit, stamp, date, subject in reversed(commits):
        now = _card_at(commit, path or "")
        if now is None:
            continue
        if not before or registration(now, scale) != registration(before, scale):
            found.append(Change(commit, float(stamp), date, subject, tuple(_differences(before, now, scale))))
        before = now
    return found[::-1]


@cache
def _log() -> dict[str, list[tuple[str, str, str, str]]]:
    """Card file -> the commits that touched it, newest first. One call of git for all cards."""
    text = git("log", "--format=%x00%H%x09%at%x09%as%x09%s", "--name-only", "--", "papers") or ""
    found: dict[str, list[tuple[str, str, str, str]]] = {}
    for block in text.split("\0")[1:]:
        head, *files = block.strip().splitlines()
        commit, stamp, date, subject = head.split("\t", 3)
        for file in filter(None, files):
            found.setdefault(file, []).append((commit, stamp, date, subject))
    return found


@cache
def _card_at(commit: str, path: str) -> Mapping[str, Any] | None:
    """The card as it stood; None where it was not there or was no YAML."""
    text = git("show", f"{commit}:{path}")
    if text is None:
        return None
    try:
        data = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        return None
    return data if isinstance(data, dict) else None


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], scale: str) -> list[str]:
    """In words: `first registered`, or which claims, arms and settings came, went and changed."""
    if not before:
        return [f"first version: {len(now.get('claims', []))} claims"]
    words = []
    for part in ("claims", "arms", "stages", "timings"):
        old, new = _named(before.get(part)), _named(now.get(part))
        for verb, names in (
            ("new", new.keys() - old.keys()),
            ("removed", old.keys() - new.keys()),
            ("changed", {n for n in new.keys() & old.keys() if new[n] != old[n]}),
        ):
            if names:
                shown = sorted(names)[:6]
                more = f" and {len(names) - 6} more" if len(names) > 6 else ""
                words.append(f"{part} {verb}: {', '.join(shown)}{more}")
    words += [f"{part} changed" for part in REGISTERED if part == "split" and before.get(part) != now.get(part)]
    for part in ("benchmarks", "scales", "models"):
        if (before.get(part) or {}).get(scale) != (now.get(part) or {}).get(scale):
            words.append(f"{'settings' if part == 'scales' else part} of scale {scale} changed")
    return words


def _named(part: Any) -> dict[str, Any]:
    """Claims and timings are lists of things with an id or a name, arms and stages mappings."""
    if isinstance(part, list):
        return {str(item.get("id") or item.get("name")): item for item in part}
    return dict(part or {})
