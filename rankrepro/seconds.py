"""papers/seconds.yaml: what a unit of every arm and stage takes on one core, from the costs of stored results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import yaml

from rankrepro import sizes
from rankrepro.cards import PAPERS, SECONDS, Card, load_yaml
from rankrepro.errors import ConfigError, StoreError
from rankrepro.plan import load_scale, make_plan
from rankrepro.store import Store, write_whole

HEAD = """\
# Seconds a unit takes on one core: scale -> card -> arm or stage. Measured: written by `rankrepro seconds`, not by
# hand. A unit is a query (task, article) of an arm; of a stage a document where it reads the corpus, a query or
# document where it reads the benchmark, else the stage as a whole.
"""
LEAST = 1e-6  # below a clock's resolution

Seconds = Mapping[str, Mapping[str, Mapping[str, float]]]  # scale -> card -> arm or stage -> seconds


def measured(cards: Mapping[str, Card], scale: str, store: Store) -> dict[str, dict[str, float]]:
    """Card -> arm or stage -> CPU seconds per unit, over all of its stored results at a scale.

    Raises ConfigError for a scale that works with stand-ins, StoreError where nothing is stored.
    """
    if load_scale(scale).get("stand_ins"):
        raise ConfigError(f"scale {scale} runs stand-ins instead of models: its seconds predict nothing")
    rungs = sizes.ladder(load_scale(scale))
    # if every unit took a second, a node would take as many seconds as it has units
    one = {key: replace(card, seconds={scale: dict.fromkeys(_names(card, rungs), 1.0)}) for key, card in cards.items()}
    spent: dict[str, float] = defaultdict(float)
    units: dict[str, float] = defaultdict(float)
    for node in make_plan(one, scale).nodes.values():
        if node.spec["kind"] != "timing" and store.has(node.digest):
            spent[node.name] += store.cost(node.digest)["cpu_s"]
            units[node.name] += node.seconds
    if not spent:
        raise StoreError(f"{store.folder} holds no result of scale {scale} as the code stands; run it first")
    of_cards: dict[str, dict[str, float]] = defaultdict(dict)
    for name in (n for n in spent if units[n]):  # 0 where only a build can tell how many there are
        key, _, arm = name.partition(".")
        of_cards[key][arm] = float(f"{max(LEAST, spent[name] / units[name]):.2g}")
    return dict(of_cards)


def merged(known: Seconds, scale: str, new: Mapping[str, Mapping[str, float]], cards: Mapping[str, Card]) -> Seconds:
    """`known` with the new figures of a scale, and without arms, stages and cards that no longer exist."""
    everything = {s: known.get(s, {}) for s in {*known, scale}}
    everything[scale] = {k: {**everything[scale].get(k, {}), **new.get(k, {})} for k in {*everything[scale], *new}}
    return {
        s: {
            key: {name: value for name, value in of_card.items() if sizes.bare(name) in _names(cards[key])}
            for key, of_card in of_scale.items()
            if key in cards
        }
        for s, of_scale in everything.items()
    }


def _names(card: Card, rungs: Iterable[str] = ()) -> list[str]:
    """The arms and stages of a card, each at every size."""
    return [sizes.at(name, size) for name in (*card.stages, *card.arms) for size in ("", *rungs)]


def write(seconds: Seconds, folder: Path = PAPERS) -> Path:
    """Write `folder/seconds.yaml`, sorted, so that a change of one figure is a change of one line."""
    file = folder / SECONDS
    text = HEAD + yaml.safe_dump({s: dict(cards) for s, cards in seconds.items()}, sort_keys=True)
    try:
        write_whole(file, text)
    except OSError as error:
        raise StoreError(f"{file} cannot be written ({error.strerror}); make its folder writable") from error
    return file


def update(cards: Mapping[str, Card], scale: str, store: Store, folder: Path = PAPERS) -> tuple[Path, int]:
    """Measure a scale and write the file; its path, and how many arms and stages were measured."""
    new = measured(cards, scale, store)
    file = folder / SECONDS
    known = load_yaml(file) or {} if file.exists() else {}
    return write(merged(known, scale, new, cards), folder), sum(map(len, new.values()))
