"""`explain`: one claim, from its sentence to the numbers that decided it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from rankrepro.cards import Card, load_cards, row_index, where_of
from rankrepro.cli import options, text
from rankrepro.cli.options import REPORTS, Json, Reports, Scale
from rankrepro.errors import ConfigError, UnknownName

ALPHA = 0.05


def explain(
    claim: Annotated[str, typer.Argument(help="The id of a claim, or paper:id.")],
    scale: Scale = "desk",
    as_json: Json = False,
    reports: Reports = REPORTS,
) -> None:
    """Explain a claim and its verdict.

    What is compared with what, what the comparison must show, what it did show, and what would change that.
    """
    options.check_scale(scale)
    cards = load_cards()
    card, wanted = find(cards, claim)
    data = options.judged(card.key, scale, reports)
    judged = next((c for c in data["papers"][card.key]["claims"] if c["id"] == wanted["id"]), None) if data else None
    if as_json:
        text.dump({"paper": card.key, "scale": scale, "claim": wanted, "result": judged})
        return
    print(f"{card.key}: {text.plain(card.title)} ({card.year})")
    print(f"{wanted['id']} ({wanted.get('role', 'claim')})\n")
    text.paragraph(wanted["sentence"], "  ")
    if wanted.get("restated"):
        text.heading("what is tested here instead, and why")
        text.paragraph(wanted["restated"], "  ")
    if not any(wanted.get(k) for k in ("expr", "levels", "timing")):
        _untested(card, wanted)
        return
    text.heading("tested")
    _tested(cards, card, wanted, scale)
    text.heading("holds if")
    for line in _rule(card, wanted):
        print(f"  {line}")
    if judged is None:
        text.heading(f"verdict at {scale}: not run")
        print(f"  make reproduce SCALE={scale} PAPERS={card.key}")
        return
    _verdict(judged, scale)
    _change(judged, scale, card)
    text.heading("the units")
    print(f"  {reports / scale / card.key / 'units.json.gz'}")
    print("  has every value of every unit, examples.json beside it the queries where the two arms differ most")


def find(cards: Mapping[str, Card], name: str) -> tuple[Card, Mapping[str, Any]]:
    """The card and claim of an id. UnknownName for none, ConfigError where several cards have it."""
    paper, colon, claim_id = name.rpartition(":")
    chosen = {paper: options.card_of(cards, paper)} if colon else cards
    found = [(card, c) for card in chosen.values() for c in card.claims if c["id"] == claim_id]
    if not found:
        raise UnknownName("claim", claim_id, [c["id"] for card in chosen.values() for c in card.claims])
    if len(found) > 1:
        choices = " or ".join(f"{card.key}:{claim_id}" for card, _ in found)
        raise ConfigError(f"claim '{claim_id}' is in {len(found)} cards; say {choices}")
    return found[0]


def _untested(card: Card, claim: Mapping[str, Any]) -> None:
    if "identity" in (claim.get("kind"), claim.get("role")):
        text.heading("verdict: identity")
        print(f"  true by construction, held by {claim.get('test', 'a unit test')}; never counted as reproduced")
        return
    text.heading("verdict: not run")
    print(f"  {where_of(card)} does not say yet how this sentence is tested: it has no `expr`")


def _tested(cards: Mapping[str, Card], card: Card, claim: Mapping[str, Any], scale: str) -> None:
    from rankrepro.judge.expressions import expressions
    from rankrepro.plan import make_plan

    made = make_plan(cards, scale, [card.key])
    if claim.get("timing"):
        _timing(card, claim, made)
        return
    arms = row_index(cards)
    expression, guard = expressions(claim, card.key, list(arms))
    print(f"  {claim.get('kind', 'superiority')}: {expression.text}")
    print(f"  measure: {', '.join(dict.fromkeys(t.measure for t in expression.terms))}")
    over = claim.get("over", "all")
    there = [b for b in made.benchmarks[card.key] if over == "all" or b in over]
    combine = claim.get("combine", "any_of" if claim.get("role") == "placebo" else "all_of")
    words = {
        "all_of": "on every one",
        "any_of": "on at least one, p corrected for the choice",
        "macro": "on their mean",
    }
    print(f"  over {', '.join(there) or f'no benchmark of scale {scale}'}: {words[combine]}")
    if claim.get("where"):
        print(f"  only units tagged {claim['where']}")
    for row in dict.fromkeys(t.arm for t in (*expression.terms, *(guard.terms if guard else ()))):
        _row(cards, arms, made, row, there)
    if guard:
        print(f"  guard: {guard.text} must be above 0, or winning against that arm would prove nothing")


def _row(
    cards: Mapping[str, Card], arms: Mapping[str, tuple[str, str]], made: Any, row: str, benchmarks: list[str]
) -> None:
    """What stands behind m(row): function, candidates, parameters, models, and units on each benchmark."""
    from rankrepro.outlook import units_of

    owner, arm = arms[row]
    spec = cards[owner].arms[arm]
    print(f"\n  {row} = {spec['fn']} (methods/{spec['fn'].split('.')[0]}.py)")
    if "candidates" in spec:
        c = spec["candidates"]
        order = f", given {c['order']}" if c.get("order", "first_stage") != "first_stage" else ""
        print(f"    re-ranks the first {c['depth']} of {c['from']}{order}")
    else:
        print("    searches the whole corpus")
    if spec.get("queries") == "decoy":
        print("    every query is replaced by another's (placebo)")
    at = made.rows.get(row, {})
    for benchmark in benchmarks:
        if benchmark not in at:
            print(f"    {benchmark}: does not run at this scale")
            continue
        seeds = at[benchmark]
        node = made.nodes[seeds[0][1]]
        params = ", ".join(f"{k} {text.plain(v)}" for k, v in node.spec["params"].items())
        models = ", ".join(m["id"] for m in node.spec["models"].values())
        said = [f"{units_of(node.spec)} units"] + ([f"{len(seeds)} seeds"] if len(seeds) > 1 else [])
        print(f"    {benchmark}: " + "; ".join([*said, *filter(None, (models, params))]))


def _timing(card: Card, claim: Mapping[str, Any], made: Any) -> None:
    timing = next(t for t in card.data["timings"] if t["name"] == claim["timing"])
    digest = made.timings.get(card.key, {}).get(timing["name"])
    print(f"  ratio of seconds: {timing['a']} / {timing['b']}, both in one process, alone, unit by unit")
    if digest:
        spec = made.nodes[digest].spec
        print(f"  on {spec['benchmark']['id']}: {spec['n']} units; and {timing['a']} against itself, which must give 1")
    else:
        print("  not timed at this scale")


def _rule(card: Card, claim: Mapping[str, Any]) -> list[str]:
    """The claim's null, target and level in words (rankrepro/judge/claims.py has the table)."""
    from rankrepro.judge.claims import PLACEBO_ALPHA
    from rankrepro.judge.estimates import Rule
    from rankrepro.outlook import family_size

    rule, kind = Rule.of(claim), claim.get("kind", "superiority")
    if claim.get("role") == "placebo":
        return [
            f"this is a placebo: it must fail. It would pass with p < {PLACEBO_ALPHA:g} and an interval at "
            f"{100 - 100 * PLACEBO_ALPHA:.4g} % above {rule.null:g}"
        ]
    m = family_size(card)
    if rule.direction == 0:
        null, target, refuted = f"lies within {-rule.null:g} and {rule.null:g}", "", "outside of them"
    elif rule.direction < 0:
        null, target, refuted = f"lies below {rule.null:g}", "", f"above {rule.target:g}"
    else:
        null, refuted = f"lies above {rule.null:g}", f"below {rule.target:g}"
        target = f", and the effect is at least {rule.target:g}" if rule.target > rule.null else ""
    unit = {"share": "share of units", "trend": "slope per level", "ratio": "ratio"}.get(kind, "difference")
    return [
        f"the {100 - 100 * ALPHA / m:.4g} % interval of the {unit} {null}{target}",
        f"(level 1 - {ALPHA:g} / m, with m = {m}: the claims of the card that can be tested),",
        f"and p, adjusted by Holm's method over those claims, is below {ALPHA:g}",
        f"refuted if the 95 % interval lies {refuted}",
    ]


def _verdict(c: Mapping[str, Any], scale: str) -> None:
    text.heading(f"verdict at {scale}: {c['verdict']}")
    if c["note"]:
        text.paragraph(f"lacks: {c['note']}" if c["verdict"] == "not run" else c["note"], "  ")
    if c["effect"] is None:
        return
    print(f"  effect {text.number(c['effect'])} {text.interval(c['ci'])} on {_place(c['benchmark'])}")
    print(
        f"  p {text.probability(c['p'])}, adjusted {text.probability(c['p_holm'])}"
        + (f", by permutation {text.probability(c['p_permutation'])}" if c["p_permutation"] is not None else "")
    )
    n = f"  {c['n']} units in {c['clusters']} clusters"
    if c["n_effective"] is not None:
        n += f", worth {c['n_effective']:.0f} " + ("independent ones" if c["kind"] == "share" else "of equal size")
    print(n + (f", {c['seeds']} seeds (sd {text.number(c['seed_sd'])})" if c["seed_sd"] is not None else ""))
    if len(c["per_benchmark"]) > 1:
        print()
        rows = [
            (b["benchmark"], text.number(b["effect"]), text.interval(b["ci"]), text.probability(b["p"]), b["n"])
            for b in c["per_benchmark"]
        ]
        text.table(("benchmark", "effect", "95 % interval", "p", "n"), rows, "  ")
    if g := c["guard"]:
        said = f"{text.number(g['effect'])} {text.interval(g['ci'])} on {_place(g['benchmark'])}"
        print(f"\n  guard {'passed' if g['passed'] else 'failed'}: {g['expr']} is {said}")


def _place(benchmark: str) -> str:
    return "the mean over benchmarks" if benchmark == "macro" else benchmark


def _change(c: Mapping[str, Any], scale: str, card: Card) -> None:
    """What would change the verdict."""
    lines = []
    if c["verdict"] == "smoke":
        lines = [f"scale {scale} gives no verdicts: make reproduce SCALE=desk PAPERS={card.key}"]
    elif c["verdict"] == "inconclusive":
        if c["needed_n"]:
            lines = [f"about {c['needed_n']} units would show the smallest effect that counts (there are {c['n']})"]
        elif not c["note"]:
            lines = ["more units would not help by themselves: the effect lies between the null and the target, or"]
            lines += ["the seeds alone vary too much"]
    elif c["verdict"] == "baseline not competent":
        lines = ["a losing arm that beats its own floor: a stronger model, or an arm that is not a strawman"]
    elif c["verdict"] == "reproduced":
        lines = ["another measurement whose interval reaches the null, or a larger min_effect in the card, which a"]
        lines += ["later claims_commit would give away"]
    elif c["verdict"] == "not reproduced":
        lines = ["another arm or benchmark: on these units the smallest effect that counts is excluded"]
    if c["detectable"] is not None:
        lines.append(f"these units show an effect of {text.number(c['detectable'])} with a power of 80 %")
    if lines:
        text.heading("what would change it")
        for line in lines:
            print(f"  {line}")
