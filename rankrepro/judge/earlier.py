"""Earlier runs of a published paper: what stood on its page before what is registered, a budget say, was changed.

`reports/<scale>/<paper>/earlier.json` has the verdicts of each, oldest first, and what was changed after it. It is
written when other results take the place of published ones, and by nobody's hand.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rankrepro.cards import Card
from rankrepro.errors import ConfigError
from rankrepro.judge.registration import registration, spelt, spelt_at
from rankrepro.plan import load_scale

FILE = "earlier.json"
KEPT = ("id", "sentence", "role", "verdict", "effect", "ci", "n")  # of a claim
UNCHANGED = "nothing that is registered; the code of its arms computes something else now"
SAID = ("verdict", "effect", "ci")
SHOWN = 4  # claims named behind a change, before they are counted
LONG = 60  # characters of a value
Run = Mapping[str, Any]
Spelt = Mapping[str, Mapping[str, Any]]  # claim -> what is registered of it


def runs(folder: Path) -> list[Run]:
    """The earlier runs of a published paper, oldest first."""
    file = folder / FILE
    if not file.exists():
        return []
    try:
        return json.loads(file.read_text(encoding="utf-8"))["runs"]
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{file} cannot be read ({error}): take it from Git again") from None


def of_claim(
    earlier: Sequence[Run], claim: str, now: Mapping[str, Any] | None = None
) -> list[tuple[str, Mapping[str, Any]]]:
    """When an earlier run ended, and what it said of the claim, unless the next (the last: `now`) says the same."""
    said = [(run["ended"], told) for run in earlier for told in run["claims"] if told["id"] == claim]
    after = [told for _, told in said[1:]] + [now or {}] if said else []
    return [one for one, then in zip(said, after, strict=True) if any(one[1][k] != then.get(k) for k in SAID)]


def keep(folder: Path, results: Mapping[str, Any], cards: Mapping[str, Card]) -> None:
    """Before `results` take the place of those in a folder: record these, if another thing was registered for them.

    Scales without verdicts have nothing to record, and a file that cannot be read says nothing.
    """
    file, scale = folder / "results.json", load_scale(results["scale"])
    if not scale["verdicts"] or not file.exists():
        return
    try:
        then = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return
    (key,) = results["papers"]
    if run := superseded(then, results, cards[key], cards):
        _write(folder, key, [*runs(folder), run])


def _write(folder: Path, key: str, told: Sequence[Run]) -> None:
    text = json.dumps({"paper": key, "runs": told}, indent=1, ensure_ascii=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def superseded(
    then: Mapping[str, Any], now: Mapping[str, Any], card: Card, cards: Mapping[str, Card]
) -> dict[str, Any] | None:
    """What is recorded of the results `then` if what was registered for them is not what is registered for `now`.

    Nothing where the same results are judged again and come out the same.
    """
    registered = [data.get("provenance", {}).get("registered", {}) for data in (then, now)]
    if registered[0] and registered[0] == registered[1]:
        return None
    commits, scale = (then["claims_commit"], now["claims_commit"]), now["scale"]
    before = spelt_at(commits[0], card.key, scale) if commits[0] else None
    after = spelt_at(commits[1], card.key, scale) if commits[1] else spelt(card, cards, load_scale(scale))
    if before == after or (before and after and _same_run(then, now, card.key)):
        return None
    return recorded(then, card.key, changed(before, after) if before and after else [_unknown(*registered)])


def _same_run(then: Mapping[str, Any], now: Mapping[str, Any], key: str) -> bool:
    """Whether both were judged from the same results, with the same verdicts on the claims that both have."""
    if then.get("digests") != now.get("digests"):
        return False
    verdicts = [{c["id"]: c["verdict"] for c in data["papers"][key]["claims"]} for data in (then, now)]
    return all(verdicts[0][claim] == verdicts[1][claim] for claim in verdicts[0].keys() & verdicts[1].keys())


def recorded(then: Mapping[str, Any], key: str, why: Sequence[str]) -> dict[str, Any]:
    """What is kept of results that no longer stand. why: what was changed after them, in words."""
    page = then["papers"][key]
    own = [cell["ended"] for cell in page["cells"] if cell["name"].startswith(f"{key}.")]
    return {
        "ended": time.strftime("%Y-%m-%d", time.gmtime(max(own))),
        "commit": then["commit"],
        "claims_commit": then["claims_commit"],
        "changed": list(why),
        "claims": [{k: c[k] for k in KEPT} for c in page["claims"] if c["role"] != "identity"],
    }


def retire(folder: Path, card: Card, cards: Mapping[str, Card], scale: str) -> None:
    """Take published results off the shelf that the code no longer makes: of them only the record stays."""
    then = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    registered = registration(card, cards, load_scale(scale))
    now = {"provenance": {"registered": dict(registered.claims)}, "claims_commit": None, "scale": scale}
    run = superseded(then, now, card, cards) or recorded(then, card.key, [UNCHANGED])
    _write(folder, card.key, [*runs(folder), run])
    for file in folder.iterdir():
        if file.name != FILE:
            file.unlink()


# --- what was changed ------------------------------------------------------------------------------------------------


def changed(before: Spelt, after: Spelt) -> list[str]:
    """In words: what of the registered part is another, each thing once, and for which claims."""
    told: dict[str, list[str]] = {}
    for claim in before:
        for words in _differing(before[claim], after.get(claim, before[claim])):
            told.setdefault(words, []).append(claim)
    lines = [f"{words} ({_named(dict.fromkeys(claims))})" for words, claims in told.items()]
    for verb, names in (("new", after.keys() - before.keys()), ("removed", before.keys() - after.keys())):
        lines += [f"claims {verb}: {', '.join(sorted(names))}"] if names else []
    return lines


def _unknown(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """The same where the card of then is in no commit: only which claims it is about."""
    names = {c: None for c in dict.fromkeys([*before, *after]) if before.get(c) != after.get(c)}
    return f"claims changed, or what they compare: {_named(names)}"


def _named(claims: Mapping[str, None]) -> str:
    return ", ".join(claims) if len(claims) <= SHOWN else f"{len(claims)} claims"


def _differing(before: Any, after: Any, name: str = "", of: str = "") -> Iterator[str]:
    """`tokens of train: 86000 -> 860000`; `of` is the function whose parameter it is."""
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        functions = before.get("fn", of), after.get("fn", of)
        if functions[0] == functions[1]:
            for key in dict.fromkeys([*before, *after]):
                yield from _differing(before.get(key), after.get(key), key, functions[0])
            return
        before, after = functions
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for one, other in zip(before, after, strict=True):
            yield from _differing(one, other, name, of)
        return
    yield f"{name}{f' of {of}' if of else ''}: {_value(before)} -> {_value(after)}"


def _value(value: Any) -> str:
    if isinstance(value, Mapping) and "fn" in value:
        return str(value["fn"])
    text = "none" if value is None else json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) <= LONG else f"{text[:LONG]}…"
