"""What a card says without meaning it: refused before anything is computed, with the words that would mean it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from rankrepro import benchmarks, signatures
from rankrepro.cards import Card, scale_names, stage_inputs, stage_of, where_of
from rankrepro.code import Code
from rankrepro.errors import ConfigError, UnknownName

Queries = Mapping[str, Any]  # `queries` of a node's spec: split, sample


def shared_seeds(card: Card, cards: Mapping[str, Card], code: Code) -> None:
    """ConfigError where an arm has several seeds, and a stage that it needs draws random numbers once for all of them.

    A stage that says its `seeds` means it: `[0]` is one result for all seeds of its readers.
    """
    for arm, spec in card.arms.items():
        seeds = max((card.seeds(arm, scale) for scale in scale_names()), key=len)
        for owner, stage in _without_seeds(card, spec, cards) if len(seeds) > 1 else ():
            fn = owner.stages[stage]["fn"]
            if signatures.of(fn, code).seeded:
                raise ConfigError(
                    f"{where_of(owner)}: stages.{stage}: {fn} uses cell.seed, and {card.key}.{arm} reads it with the "
                    f"seeds {seeds}: all of them would get what seed 0 makes. Say `seeds: {seeds}` in the stage, or "
                    "`seeds: [0]` if one result for all is meant"
                )


def _without_seeds(card: Card, spec: Mapping[str, Any], cards: Mapping[str, Card]) -> Iterator[tuple[Card, str]]:
    """Stages that an arm or stage reads, directly or through others with several seeds, and that name no seeds."""
    for source in stage_inputs(spec).values():
        if named := stage_of(cards, card, source):
            owner, stage, _ = named
            seeds = owner.stages[stage].get("seeds", ())
            if not seeds:
                yield owner, stage
            if len(seeds) != 1:
                yield from _without_seeds(owner, owner.stages[stage], cards)


def unanswered(card: Card, arm: str, benchmark: str, asked: Queries, source: str, answered: Queries) -> None:
    """ConfigError where an arm has queries whose candidates its first stage, `source`, does not find.

    A sample is the first queries by hash of all splits that are asked for; of one split it holds that split's share.
    """
    counts = benchmarks.get(benchmark).counts
    of_asked, of_answered = (sum(counts.get(s, 0) for s in q["split"]) or math.inf for q in (asked, answered))
    wanted, found = min(asked["sample"] or math.inf, of_asked), min(answered["sample"] or math.inf, of_answered)
    one_split = set(asked["split"]) == set(answered["split"])
    share = 1.0 if one_split or math.inf in (of_asked, of_answered) else of_asked / of_answered
    strange = [s for s in asked["split"] if s not in answered["split"] and counts.get(s, 1)]
    whole = not answered["sample"] or found == of_answered
    if not strange and (whole or wanted <= found * share):
        return
    holds = "" if share == 1 or strange else f", about {found * share:.0f} of them of that split"
    own, its = (" and ".join(queries["split"]) for queries in (asked, answered))
    raise ConfigError(
        f"{where_of(card)}: arms.{arm}: on {benchmark} it re-ranks {_said(wanted)} of {own}, and its first stage "
        f"{source} answers {_said(found)} of {its}{holds}: give the arm a smaller `sample`, or the card a first stage "
        "of its own"
    )


def _said(queries: float) -> str:
    return "all queries" if queries == math.inf else f"a sample of {queries:.0f} queries"


def unknown_variant(card: Card, key: str, source: str, fn: str, variant: str, code: Code) -> None:
    """UnknownName where an input asks for what a stage does not return; a function that does not tell is believed."""
    known = signatures.of(fn, code).variants
    if variant and known is not None and variant not in known:
        raise UnknownName("variant", variant, known, where=f"{where_of(card)}: {key}: {source}")
