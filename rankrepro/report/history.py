"""What git knows about a card's claims: when they were registered, and what has changed since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rankrepro.cards import Card
from rankrepro.judge.registration import Registration, lineage

SHOWN = 6  # claims named in a line


@dataclass(frozen=True)
class Change:
    """One commit that changed what a card registers, or only the words of it (`worded`)."""

    commit: str
    time: float  # seconds since 1970, of the author
    date: str
    subject: str
    what: tuple[str, ...]
    worded: bool


def changes(card: Card, scale: str) -> list[Change] | None:
    """Commits that changed what the card registers at `scale`, newest first; None where git has no history of it."""
    history: list[Change] = []
    before: Registration | None = None
    for commit, now in reversed(list(lineage(card, scale))):
        if now is None:
            continue
        if what := differences(before, now):
            wording_alone = before is not None and before.claims == now.claims
            history.append(Change(commit.id, commit.time, commit.date, commit.subject, tuple(what), wording_alone))
        before = now
    return history[::-1] or None


def differences(before: Registration | None, now: Registration) -> list[str]:
    """In words: the first version, or which claims came, went, changed, or were only reworded."""
    if before is None:
        return [f"first version: {len(now.claims)} claims"]
    changed = _differ(before.claims, now.claims)
    return [
        f"claims {verb}: {', '.join(names[:SHOWN])}" + (f" and {len(names) - SHOWN} more" if names[SHOWN:] else "")
        for verb, names in (
            ("new", sorted(now.claims.keys() - before.claims.keys())),
            ("removed", sorted(before.claims.keys() - now.claims.keys())),
            ("changed, or what they compare", changed),
            ("reworded", [name for name in _differ(before.words, now.words) if name not in changed]),
        )
        if names
    ]


def _differ(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return sorted(name for name in before.keys() & now.keys() if before[name] != now[name])
