"""`explain`: one claim, from its sentence to the numbers that decided it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from rankrepro import claims
from rankrepro.cards import Card, load_cards, row_index, where_of
from rankrepro.claims import Claim
from rankrepro.cli import options, text
from rankrepro.cli.options import REPORTS, Json, Reports, Scale
from rankrepro.code import METHODS
from rankrepro.errors import ConfigError, UnknownName
from rankrepro.judge import earlier

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
    card, given = find(cards, claim)
    wanted = claims.parse(given, card.key, where_of(card))
    data = options.judged(card.key, scale, reports)
    judged = next((c for c in data["papers"][card.key]["claims"] if c["id"] == wanted.id), None) if data else None
    before = earlier.of_claim(earlier.runs(reports / scale / card.key), wanted.id)
    if as_json:
        then = [{"ended": ended, **told} for ended, told in before]
        text.dump({"paper": card.key, "scale": scale, "claim": given, "result": judged, "earlier": then})
        return
    print(f"{card.key}: {text.plain(card.title)} ({card.year})")
    print(f"{wanted.id} ({wanted.role}; {claims.ORIGINS[wanted.origin]})\n")
    words = judged or {"sentence": wanted.sentence, "restated": wanted.restated}
    text.paragraph(words["sentence"], "  ")
    if words["sentence"] != wanted.sentence:
        text.heading("worded anew since; the verdict is of the sentence above, the card now says")
        text.paragraph(wanted.sentence, "  ")
    if words["restated"]:
        text.heading("what is tested here instead, and why")
        text.paragraph(words["restated"], "  ")
    if wanted.kind is None or not (wanted.expression or wanted.timing):
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
    assert data is not None
    _since(cards, card, wanted, data)
    _earlier(before)
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


def _untested(card: Card, claim: Claim) -> None:
    if claim.identity:
        text.heading("verdict: identity")
        print(f"  true by construction, held by {claim.test or 'a unit test'}; never counted as reproduced")
        return
    text.heading("verdict: not run")
    print(f"  {where_of(card)} does not say yet how this sentence is tested: it has no `expr`")


def _tested(cards: Mapping[str, Card], card: Card, claim: Claim, scale: str) -> None:
    from rankrepro.plan import make_plan

    made = make_plan(cards, scale, [card.key])
    if claim.timing:
        _timing(card, claim, made)
        return
    arms = row_index(cards)
    expression, guard = claim.expression, claim.guard
    assert claim.kind is not None and expression is not None
    print(f"  {claim.kind.name}: {expression.text}")
    if claim.quantity:
        text.paragraph(f"in words: {claim.quantity}", "  ")
    print(f"  measure: {', '.join(dict.fromkeys(t.measure for t in expression.terms))}")
    there = claim.of(made.benchmarks[card.key])
    words = {
        "all_of": "on every one",
        "any_of": "on at least one, p corrected for the choice",
        "macro": "on their mean",
    }
    print(f"  over {', '.join(there) or f'no benchmark of scale {scale}'}: {words[claim.combine]}")
    if claim.where:
        print(f"  only units tagged {claim.where}")
    for row in dict.fromkeys(t.arm for t in claim.terms):
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
    file = METHODS.files[METHODS.find(spec["fn"]).module].relative_to(METHODS.root)
    print(f"\n  {row} = {spec['fn']} ({file})")
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


def _timing(card: Card, claim: Claim, made: Any) -> None:
    timing = next(t for t in card.data["timings"] if t["name"] == claim.timing)
    digest = made.timings.get(card.key, {}).get(timing["name"])
    print(f"  ratio of seconds: {timing['a']} / {timing['b']}, both in one process, alone, unit by unit")
    if digest:
        spec = made.nodes[digest].spec
        print(f"  on {spec['benchmark']['id']}: {spec['n']} units; and {timing['a']} against itself, which must give 1")
    else:
        print("  not timed at this scale")


def _rule(card: Card, claim: Claim) -> list[str]:
    """The claim's null, target and level in words (rankrepro/claims.py has the table)."""
    from rankrepro.judge.claims import PLACEBO_ALPHA

    assert claim.kind is not None
    null, target, direction = claim.null, claim.target, claim.kind.direction
    if claim.role == "placebo":
        floor = (
            f"and its arm must be equal to {claim.floor.text}, within {claim.floor_margin:g}, or below it"
            if claim.floor
            else ""
        )
        return [
            f"this is a placebo: it must fail. It would pass with p < {PLACEBO_ALPHA:g} and an interval at "
            f"{100 - 100 * PLACEBO_ALPHA:.4g} % {'below' if direction < 0 else 'above'} {null:g}",
            *filter(None, [floor]),
        ]
    m = claims.family_size(claims.of(card))
    if direction == 0:
        lies, refuted = f"lies between {-null:g} and {null:g}", "outside of them"
    elif direction < 0:
        lies, refuted = f"lies below {null:g}", f"above {target:g}"
    else:
        lies, refuted = f"lies above {null:g}", f"below {target:g}"
        lies += f", and the effect is at least {target:g}" if target > null else ""
    return [
        f"the {100 - 100 * ALPHA / m:.4g} % interval of the {claim.kind.words.effect} {lies}",
        f"(level 1 - {ALPHA:g} / m, with m = {m}: the claims of the card that can be tested),",
        f"and p, adjusted by Holm's method over those claims, is below {ALPHA:g}",
        f"refuted if that interval lies {refuted}, and p of the refutation, adjusted likewise, is below {ALPHA:g}",
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
        n += f", worth {c['n_effective']:.0f} " + (
            "of equal size" if claims.KINDS[c["kind"]].estimate == "mean" else "independent ones"
        )
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


def _since(cards: Mapping[str, Card], card: Card, claim: Claim, data: Mapping[str, Any]) -> None:
    """Whether the card says today what the verdict was given on."""
    from rankrepro.judge.registration import registration
    from rankrepro.plan import load_scale

    now = registration(card, cards, load_scale(data["scale"])).claims[claim.id]
    if data["provenance"]["registered"].get(claim.id) != now:
        said = "What this claim compares has changed since: the verdict is of what was registered in commit "
        text.paragraph(f"{said}{data['claims_commit'] or 'none'}, and what is said to be tested is of now.", "  ")


def _earlier(before: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Verdicts of runs before what is registered was changed."""
    if before:
        text.heading("earlier runs, before what is registered or a budget was changed")
        for ended, told in before:
            effect = f"{text.number(told['effect'])} {text.interval(told['ci'])}, n {told['n']}"
            print(f"  {ended}: {told['verdict']}, {effect}")


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
        power = 100 * claims.KINDS[c["kind"]].power
        lines.append(f"these units show an effect of {text.number(c['detectable'])} with a power of {power:.0f} %")
    if lines:
        text.heading("what would change it")
        for line in lines:
            print(f"  {line}")
