"""What a card registers before the first run of a scale, and since which commit it stands.

A verdict depends on what is compared and how: the claim's kind, role, measure, expression, benchmarks, tag, guard and
bounds, and on what its arms are at that scale, with the stages and candidates below them. That is hashed, claim by
claim. Names of arms, stages and modules are not, nor are words, predicted seconds, tables or the layout of the card:
`words` has a hash of its own. Cards of either form, in whatever folder, come out the same.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rankrepro import claims, signatures
from rankrepro.card_form import expanded
from rankrepro.cards import DEFAULT_SPLIT, ROOT, Card, qualify, row_index, stage_inputs, stage_of
from rankrepro.claims import Claim, Term
from rankrepro.code import METHODS
from rankrepro.errors import RankReproError, UnknownName
from rankrepro.files import parse_yaml
from rankrepro.parameters import layers
from rankrepro.plan import load_scale
from rankrepro.store import digest_of

SOURCES = ("corpus", "benchmark")  # inputs of a stage that no stage or arm makes


@dataclass(frozen=True)
class Registration:
    """Claim -> hash of what its verdict depends on, and claim -> hash of its words."""

    claims: Mapping[str, str]
    words: Mapping[str, str]


def registration(card: Card, cards: Mapping[str, Card], scale: Mapping[str, Any]) -> Registration:
    """What `card` registers at a scale. `cards`: all of them, for the arms of others that its claims read."""
    return Registration(
        {claim: digest_of(part) for claim, part in spelt(card, cards, scale).items()},
        {c.id: digest_of([c.sentence, c.restated, c.quantity, c.origin]) for c in claims.of(card)},
    )


def spelt(card: Card, cards: Mapping[str, Card], scale: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Claim -> what is registered of it, spelt out: what `registration` hashes."""
    world = _World(cards, scale)
    return {claim.id: world.claim(card, claim) for claim in claims.of(card)}


@cache
def _taken(fn: str) -> Collection[str] | None:
    """The parameters that a function takes today, wherever it lies now; None, so that all count, if it is gone."""
    elsewhere = [f"{door}.{fn.rpartition('.')[2]}" for door in sorted(METHODS.doors)]
    for names in ([fn], elsewhere):
        found = []
        for name in names:
            try:
                found.append(signatures.of(name).parameters)
            except UnknownName:
                continue
        if len(found) == 1:
            return found[0]
    return None


class _World:
    """Cards and a scale as they stood at one time, each arm and stage spelt out."""

    def __init__(self, cards: Mapping[str, Card], scale: Mapping[str, Any]) -> None:
        self.cards, self.scale = cards, scale
        self.name = str(scale.get("like", scale["scale"]))  # what cards say of the scale it is like holds
        self.rows = row_index(cards)

    def claim(self, card: Card, claim: Claim) -> dict[str, Any]:
        """All that the claim's verdict depends on, without a name that could be given anew."""
        benchmarks = claim.of(card.benchmarks_at(self.name))
        return {
            "kind": claim.kind.name if claim.kind else None,
            "role": claim.role,
            "bounds": {key: getattr(claim.bounds, key) for key in claim.kind.reads} if claim.kind else None,
            "expression": self._tree(claim.expression.tree, benchmarks) if claim.expression else None,
            "guard": self._tree(claim.guard.tree, benchmarks) if claim.guard else None,
            **self._floor(claim, benchmarks),
            "benchmarks": sorted(benchmarks),
            "combine": claim.combine,
            "where": claim.where,
            "timing": self._timing(card, claim.timing) if claim.timing else None,
        }

    def _floor(self, claim: Claim, benchmarks: list[str]) -> dict[str, Any]:
        """What a placebo must be equal to, where it says so."""
        if claim.floor is None:
            return {}
        return {"floor": self._tree(claim.floor.tree, benchmarks), "margin": claim.floor_margin}

    def _tree(self, tree: Any, benchmarks: list[str]) -> Any:
        """An expression with every arm in it replaced by what it is."""
        if isinstance(tree, Term):
            return {"measure": tree.measure, "row": self._row(tree.arm, benchmarks)}
        return [tree[0], *(self._tree(part, benchmarks) for part in tree[1:])] if isinstance(tree, tuple) else tree

    def _timing(self, card: Card, name: str) -> dict[str, Any]:
        timing = next(t for t in card.data["timings"] if t["name"] == name)
        benchmark = timing.get("benchmark", card.benchmarks_at(self.name)[0])
        n = timing["n"].get(self.name) if isinstance(timing["n"], Mapping) else timing["n"]
        sides = [self._row(qualify(card, timing[side]), [benchmark]) for side in ("a", "b")]
        return {"sides": sides, "benchmark": benchmark, "n": n}

    def _row(self, row: str, benchmarks: list[str]) -> dict[str, Any]:
        """What an arm is at this scale, on the benchmarks where it runs."""
        owner, arm = self.rows[row]
        card = self.cards[owner]
        spec, settings = card.arms[arm], card.at(self.name)
        runs = settings.get("benchmarks", {}).get(arm, benchmarks) if arm in settings.get("arms", card.arms) else []
        where = [b for b in benchmarks if b in runs]
        candidates = None
        if "candidates" in spec:
            given = spec["candidates"]
            candidates = {
                "from": self._row(qualify(card, given["from"]), where),
                "depth": given["depth"],
                "order": given.get("order", "first_stage"),
            }
        return self._function(card, arm, spec) | {
            "variant": card.rows(arm)[row.split(".")[1]],
            "seeds": card.seeds(arm, self.name),
            "samples": {b: self._sample(card, spec, b) for b in where},
            "split": card.data.get("split", DEFAULT_SPLIT),
            "queries": spec.get("queries", "own"),
            "candidates": candidates,
            "inputs": {name: self._input(card, s, where) for name, s in spec.get("inputs", {}).items()},
        }

    def _input(self, card: Card, source: str, benchmarks: list[str]) -> Any:
        if source in SOURCES:
            return source
        found = stage_of(self.cards, card, source)
        if found is None:
            return self._row(qualify(card, source), benchmarks)
        owner, stage, variant = found
        return self._stage(owner, stage, benchmarks) | ({"variant": variant} if variant else {})

    def _stage(self, card: Card, name: str, benchmarks: list[str]) -> dict[str, Any]:
        spec = card.stages[name]
        own = [spec["benchmark"][self.name]] if "benchmark" in spec else benchmarks
        return self._function(card, name, spec) | {
            "benchmark": spec["benchmark"][self.name] if "benchmark" in spec else None,
            "seeds": spec.get("seeds", [0]),
            "inputs": {key: self._input(card, source, own) for key, source in stage_inputs(spec).items()},
        }

    def _function(self, card: Card, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        roles = {**self.scale["models"], **card.data.get("models", {}).get(self.name, {})}
        return {
            "fn": spec["fn"].split(".")[-1],
            "params": self._params(card, name, spec),
            "models": {key: roles[role] for key, role in spec.get("models", {}).items()},
        }

    def _params(self, card: Card, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Those given that the function takes."""
        given: dict[str, Any] = {}
        for _, layer in layers(card, name, spec, self.name):
            given |= layer
        taken = _taken(spec["fn"])
        return given if taken is None else {key: value for key, value in given.items() if key in taken}

    def _sample(self, card: Card, spec: Mapping[str, Any], benchmark: str) -> int | None:
        n = card.at(self.name).get("sample", {}).get(spec.get("sample", "all"), self.scale["sample"])
        return n.get(benchmark, n["default"]) if isinstance(n, Mapping) else n


# --- in the history of the project -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Commit:
    """A commit that touched a card or a scale; `parents`: those before it that did, by line of descent."""

    id: str
    parents: tuple[str, ...]
    time: float  # seconds since 1970, of the author
    date: str
    subject: str


def claims_commit(card: Card, cards: Mapping[str, Card], scale: str) -> str | None:
    """The commit since which the card's registered part stands as it does now; None if it is not committed."""
    now = registration(card, cards, load_scale(scale)).claims
    line = [commit for commit, then in lineage(card, scale, now) if then is not None and then.claims == now]
    return line[-1].id if line else None


def lineage(
    card: Card, scale: str, now: Mapping[str, str] | None = None
) -> Iterator[tuple[Commit, Registration | None]]:
    """The commits that touched cards or scales, newest first, with what the card registered then (None: nothing).

    `now`: follow, where lines of work were merged, the one that has these claims, and end where none has.
    """
    if not card.file.is_relative_to(ROOT):
        return
    log = _log()
    at = next(iter(log), None)
    while at is not None:
        then = registered_at(at, card.key, scale)
        if now is not None and (then is None or then.claims != now):
            return
        yield log[at], then
        claims_then = then.claims if then else None
        parents = [p for p in log[at].parents if p in log]
        same = [p for p in parents if (r := registered_at(p, card.key, scale)) and r.claims == claims_then]
        at = next(iter([*same, *parents]), None)


@cache
def _log() -> dict[str, Commit]:
    """The commits that touched cards or scales, newest first."""
    form = "--format=%H%x09%P%x09%at%x09%as%x09%s"
    text = git("log", "--parents", form, "--topo-order", "--", "papers", "config/scales") or ""
    found = {}
    for line in text.splitlines():
        commit, parents, stamp, date, subject = line.split("\t", 4)
        found[commit] = Commit(commit, tuple(parents.split()), float(stamp), date, subject)
    return found


@cache
def registered_at(commit: str, key: str, scale: str) -> Registration | None:
    """What the card registered in a commit; None where it was not there or could not be read as it is read today."""
    return _at(commit, key, scale, registration)


def spelt_at(commit: str, key: str, scale: str) -> dict[str, dict[str, Any]] | None:
    """The same spelt out."""
    return _at(commit, key, scale, spelt)


def _at(commit: str, key: str, scale: str, make: Callable[..., Any]) -> Any:
    """What `make` says of the cards and the scale as they were in a commit."""
    files = _files(commit)
    try:
        cards = {k: card for k, blob in files.items() if (card := _card(blob, k)) is not None}
        return make(cards[key], cards, _scale_at(files, scale)) if key in cards else None
    except (RankReproError, KeyError, TypeError, AttributeError, ValueError, StopIteration):
        return None


@cache
def _files(commit: str) -> dict[str, str]:
    """Key of a card, or `scale:<name>`, -> the id of its text in a commit, whatever folder it lay in."""
    found = {}
    for line in (git("ls-tree", "-r", commit, "--", "papers", "config/scales") or "").splitlines():
        about, path = line.split("\t", 1)
        if path.endswith(".yaml"):
            prefix = "" if path.startswith("papers/") else "scale:"
            found[prefix + Path(path).stem] = about.split()[2]
    return found


@cache
def _text(blob: str) -> Any:
    return parse_yaml(git("cat-file", "blob", blob) or "")


@cache
def _card(blob: str, key: str) -> Card | None:
    """A card of the history in full form, whichever it was written in; None for what is none."""
    data = None if key.startswith("scale:") else expanded(_text(blob), f"{key}.yaml")
    if not isinstance(data, dict) or "claims" not in data:
        return None
    return Card(key, ROOT / f"{key}.yaml", data, data.get("arms", {}))


def _scale_at(files: Mapping[str, str], name: str) -> dict[str, Any]:
    data = _text(files[f"scale:{name}"])
    return _scale_at(files, data["like"]) | data if "like" in data else data


def git(*args: str) -> str | None:
    """Output of a git command in the project, None where there is no git or no repository."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *args], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
