"""A new method as an arm of an existing comparison: its card, its module and its test, ready to run."""

from __future__ import annotations

import datetime
import keyword
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import yaml

from rankrepro import benchmarks
from rankrepro.card_form import expanded
from rankrepro.cards import ROOT, Card, load_cards, qualify, row_index, validate, where_of
from rankrepro.errors import ConfigError, StoreError, UnknownName

FLOOR = ("baselines.first_stage", "baselines.random")  # rows every re-ranker is shown beside
SAMPLE = 60  # queries at scale quick, as many as the baselines' cheap arms have

HEAD = """\
# What a card can say, and what a method can use: docs/contract.md
key: $key
title: $key  # the title of your paper, or what your method is called
year: $year
link: https://example.org/$key
family: $family
summary: >-
  Ranks a candidate by the words it shares with the query. Say here in your own words what your method does.
"""

PARTS = {
    "benchmarks": """\
benchmarks:
  quick: [$quick]
  desk: [$desk]
""",
    "scales": """\
scales:
  quick: {sample: {all: $sample}}
  desk: {sample: {all: null}}
""",
    "arms": """\
arms:
  rerank:
    fn: $key.rerank  # methods/$family/$key.py
    label: $key
    candidates: {from: $first_stage, depth: $depth}
  decoy:
    fn: $key.rerank
    label: $key, given another query
    candidates: {from: $first_stage, depth: $depth}
    queries: decoy  # the placebo: every query is replaced by another's
""",
    "tables": """\
tables:
  - name: re-ranking the first $depth of $first_stage
    arms: [$rows, rerank, decoy]
    measures: [nDCG@10, RR, Judged@10]
    baseline: $rival
    oracle: baselines.first_stage
""",
}

CLAIMS = """\
  - id: $name-over-$rival_name
    origin: ours  # `paper` for a sentence of the paper, `control` for a stricter question than its own
    sentence: Ranks better than $rival.
    kind: superiority
    measure: nDCG@10
    expr: m(rerank) - m($rival)
    over: all
    guard: m(baselines.first_stage) - m(baselines.random)
  - id: $name-placebo
    role: placebo
    sentence: Ranks better than $rival when it is given another query's text.
    kind: superiority
    measure: nDCG@10
    expr: m(decoy) - m($rival)
    floor: m($random)
    margin: 0.05
    over: all
"""

METHOD = '''\
"""$key: a candidate is worth the number of words it shares with the query."""

from __future__ import annotations

import re

from rankrepro.cell import Cell, Ranking


def words(text: str) -> set[str]:
    return set(re.findall(r"\\w+", text.lower()))


def rerank(cell: Cell) -> Ranking:
    """Score every candidate of every query; a higher score is better."""

    def score(queries: list[str]) -> dict[str, dict[str, float]]:
        return {
            q: {d: float(len(words(cell.queries[q]) & words(cell.document(d).content))) for d in cell.candidates[q]}
            for q in queries
        }

    return Ranking(cell.map(list(cell.queries), score, batch=8))
'''

TEST = '''\
"""$key on a few short documents (tests/methods/conftest.py): the order it must give, worked out by hand."""

from __future__ import annotations

from typing import Any

from methods.$family.$key import rerank


def first(make_cell: Any, query: str) -> str:
    """The title that comes first for a query."""
    cell = make_cell(queries={"q": query})
    ranking = rerank(cell).checked(cell)
    return cell.document(next(iter(ranking.values["q"]))).title


def test_shared_words_come_first(make_cell: Any) -> None:
    assert first(make_cell, "the rhine flows through germany") == "Rhine"


def test_another_query_has_another_first(make_cell: Any) -> None:
    assert first(make_cell, "chess, a board game for two players") == "Chess"
'''


@dataclass(frozen=True)
class Scaffold:
    """What was written, what the user still has to put into the card, and the id of the claim to look at."""

    key: str
    written: list[Path]
    stanza: str
    claim: str


def scaffold(
    key: str,
    of: str = "baselines",
    benchmark: str = "vital-mini/fever",
    insert: bool = False,
    root: Path = ROOT,
    family: str = "",
) -> Scaffold:
    """Write a card, a module and a test in the folders of a family, below `root`.

    of         the card whose comparison the method joins: its candidates, and its rows beside it
    benchmark  for scale quick; desk takes the full one of a `vital-mini/*`
    insert     append the missing parts to a card that has no method yet, instead of returning them
    family     the folder of papers/ and methods/; without it that of `family_of`

    Nothing is overwritten: ConfigError for a key that has a method, UnknownName for a card or benchmark there is not.
    """
    cards = load_cards(root / "papers")
    _check_key(key, cards, root)
    values = _values(key, cards, of, benchmark, family)
    parts = {name: Template(text).substitute(values) for name, text in PARTS.items()}
    claims = Template(CLAIMS).substitute(values)
    family = values["family"]
    module = root / "methods" / family / f"{key}.py"
    test = root / "tests" / "methods" / family / f"test_{key}.py"
    files = {module: Template(METHOD).substitute(values), test: Template(TEST).substitute(values)}
    stanza, claim = "", f"{values['name']}-over-{values['rival_name']}"
    card = cards[key].file if key in cards else root / "papers" / family / f"{key}.yaml"
    if key in cards:
        missing = "".join(text for name, text in parts.items() if name not in cards[key].data)
        stanza = f"{missing}# and under claims:\n{claims}"
        if insert:
            files[card] = card.read_text(encoding="utf-8").rstrip("\n") + "\n" + missing
            stanza = f"# under claims:\n{claims}"
        claim = cards[key].claims[0]["id"]
    else:
        files[card] = Template(HEAD).substitute(values) + "".join(parts.values()) + "claims:\n" + claims
    if card in files:
        validate(expanded(yaml.safe_load(files[card]), card.name), "card", card.name)
    for file, text in files.items():
        _write(file, text, may_exist=file == card and key in cards)
    return Scaffold(key, sorted(files), stanza, claim)


def _check_key(key: str, cards: Mapping[str, Card], root: Path) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", key) or keyword.iskeyword(key):
        raise ConfigError(f"'{key}' cannot name a module: use small letters, digits and _, a letter first")
    if key in cards and cards[key].implemented:
        raise ConfigError(f"{where_of(cards[key])} has arms already: nothing is overwritten; choose another key")
    named = [*(root / "methods").rglob(key), *(root / "methods").rglob(f"{key}.py")]
    for file in (*named, *(root / "tests" / "methods").rglob(f"test_{key}.py")):
        if "parts" not in file.relative_to(root).parts[:-1]:  # what methods share has no name in cards
            raise ConfigError(f"{file} exists: nothing is overwritten; choose another key")


def family_of(key: str, joined: Card, cards: Mapping[str, Card], wanted: str = "") -> str:
    """The family of an existing card; for a new one `wanted`, else that of the card it joins, or llm_rerankers."""
    if key in cards:
        if wanted not in ("", cards[key].family):
            raise ConfigError(f"{where_of(cards[key])} is of family {cards[key].family}, not {wanted}: omit --family")
        return cards[key].family
    if wanted:
        return wanted
    return joined.family if joined.family != "controls" else "llm_rerankers"


def _values(key: str, cards: Mapping[str, Card], of: str, benchmark: str, family: str) -> dict[str, Any]:
    """What the templates are filled with."""
    if of not in cards:
        raise UnknownName("paper", of, cards)
    if benchmarks.get(benchmark).documents == 0:
        raise ConfigError(f"{benchmark} has no documents to rank, or none that are counted; choose another benchmark")
    joined = cards[of]
    ranking = [a for a, spec in joined.arms.items() if "candidates" in spec and spec.get("queries", "own") == "own"]
    if not ranking:
        raise ConfigError(f"{where_of(joined)} has no arm that re-ranks candidates: choose another card for --from")
    candidates = joined.arms[ranking[0]]["candidates"]
    rows = list(FLOOR) if of == "baselines" else [*FLOOR, *_rows(joined, ranking, cards)]
    owners = row_index(cards)
    mechanism = [r for r in rows if owners[r][0] == of and joined.arms[owners[r][1]]["fn"].startswith(f"{of}.")]
    rival = FLOOR[0] if of == "baselines" else (mechanism or rows[len(FLOOR) :])[0]
    return {
        "key": key,
        "name": key.replace("_", "-"),
        "year": datetime.date.today().year,
        "family": family_of(key, joined, cards, family),
        "quick": benchmark,
        "desk": benchmark.replace("vital-mini/", "vital/"),
        "sample": SAMPLE,
        "first_stage": qualify(joined, candidates["from"]),
        "depth": candidates["depth"],
        "rows": "\n      ".join(textwrap.wrap(", ".join(rows), 90)),
        "rival": rival,
        "random": _random(joined, candidates, cards),
        "rival_name": rival.split(".")[1].replace("_", "-"),
    }


def _random(joined: Card, candidates: Mapping[str, Any], cards: Mapping[str, Card]) -> str:
    """The row that has these candidates in random order: the floor of the placebo."""
    wanted = {**candidates, "from": qualify(joined, candidates["from"])}
    for card in (joined, cards["baselines"]):
        for arm, spec in card.arms.items():
            given = spec.get("candidates")
            if spec["fn"] == "floors.random" and given and {**given, "from": qualify(card, given["from"])} == wanted:
                return f"{card.key}.{arm}"
    return FLOOR[1]


def _rows(card: Card, ranking: Sequence[str], cards: Mapping[str, Card]) -> list[str]:
    """The card's rows in its first table that shows one of its re-ranking arms."""
    owners = row_index(cards)
    for table in card.data.get("tables", []):
        named = [qualify(card, a) for a in table["arms"]]
        mechanism = [r for r in named if owners[r][0] == card.key and owners[r][1] in ranking]
        if mechanism:
            return mechanism
    return [f"{card.key}.{row}" for row in card.rows(ranking[0])]


def _write(file: Path, text: str, may_exist: bool) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.tmp")
        temporary.write_text(text, encoding="utf-8")
        if file.exists() and not may_exist:
            temporary.unlink()
            raise ConfigError(f"{file} exists: nothing is overwritten; choose another key")
        temporary.rename(file)
    except OSError as error:
        raise StoreError(f"{file} cannot be written ({error.strerror}); make its folder writable") from error
