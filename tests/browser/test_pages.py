"""The pages as a reader meets them: opened from the file system in a real browser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from synthetic import HOSTILE

from rankrepro.cards import load_cards

CARDS = load_cards()
PAGES = [
    "index.html",
    "baselines/index.html",
    "icr/index.html",
    "anyloss/index.html",
    "fullrank/index.html",
    "first/index.html",
]


def results(site: Path, key: str) -> dict[str, Any]:
    return json.loads((site / key / "results.json").read_text())["papers"][key]


def shown(page: Any) -> list[str]:
    return page.locator("tr[data-paper]:visible th a").all_inner_texts()


# --- every page ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_load_without_errors_and_draw_nothing_until_it_is_asked_for(visit: Any, path: str, scheme: str) -> None:
    """A page is ready at once because it comes drawn: few elements, laid out a few times, no chart compiled."""
    page = visit(path, color_scheme=scheme)
    assert page.locator("h1").is_visible()
    counters = page.context.new_cdp_session(page)
    counters.send("Performance.enable")
    page.reload()
    metrics = {m["name"]: m["value"] for m in counters.send("Performance.getMetrics")["metrics"]}
    elements = page.locator("*").count()
    print(f"{path}: {elements} elements, {metrics['LayoutCount']:.0f} layouts, {metrics['ThreadTime']:.2f} s of CPU")
    assert elements < 40_000
    assert metrics["LayoutCount"] <= 10
    assert page.locator(".plot[data-live]").count() == 0


@pytest.mark.parametrize("path", PAGES)
def test_a_phone_scrolls_down_and_not_sideways(visit: Any, path: str) -> None:
    page = visit(path, width=360)
    for details in page.locator("details").all():
        details.evaluate("d => { d.open = true }")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_pages_read_without_javascript(visit: Any) -> None:
    page = visit("icr/index.html", java_script_enabled=False)
    assert page.locator("article.claim").count() == len(CARDS["icr"].claims)
    assert page.locator("figure svg").first.is_visible()
    assert page.locator(".js:visible").count() == 0
    front = visit("index.html", java_script_enabled=False)
    assert len(shown(front)) == len(CARDS)


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["baselines", "icr", "anyloss"])
def test_the_numbers_shown_are_those_of_the_results(visit: Any, site: Path, key: str) -> None:
    page, published = visit(f"{key}/index.html"), results(site, key)
    rows = page.evaluate(
        "[...document.querySelectorAll('.sheet table')].map(t => [t.caption.textContent, "
        "[...t.tHead.rows[0].cells].map(c => c.textContent), [...t.tBodies[0].rows].map("
        "r => [...r.cells].map(c => [c.dataset.v, c.firstChild ? c.firstChild.textContent : '', c.textContent]))])"
    )
    names = list(dict.fromkeys(r["benchmark"] for t in published["tables"] for r in t["rows"]))
    checked = 0
    for table in published["tables"]:
        lead = table["measures"][0]
        wanted = {(r["arm"], r["benchmark"]): r for r in table["rows"] if r["measure"] == lead}
        candidates = [
            (head, body) for caption, head, body in rows
            if caption.startswith(lead) and {line[0][0] for line in body} == {a for a, _ in wanted}
        ]  # fmt: skip
        assert candidates, f"no table for {table['name']}"
        for head, body in candidates[:1]:
            for line in body:
                for name, (value, text, _) in zip(head, line, strict=True):
                    if name not in names or (line[0][0], name) not in wanted:
                        continue
                    row = wanted[line[0][0], name]
                    assert float(value) == row["value"]
                    assert text == f"{row['value']:.3f}".replace("-", "−")
                    checked += 1
    assert checked >= 20
    for claim in published["claims"]:
        article = page.locator(f"article.claim:has(code:text-is('{claim['id']}'))")
        if claim["effect"] is None:
            continue
        assert claim["verdict"] in article.locator(".badge").inner_text()
        low, high = claim["ci"]
        digits = page.locator(f"article.claim:has(code:text-is('{claim['id']}')) .said").inner_text()
        scaled = [100 * low, 100 * high] if claim["kind"] == "share" else [low, high]
        places = 0 if claim["kind"] == "share" else 2 if (claim["benchmark"] or "").startswith("timing") else 3
        assert all(f"{abs(v):.{places}f}" in digits for v in scaled), (claim["id"], digits)


def test_the_front_page_counts_what_the_results_say(visit: Any, site: Path) -> None:
    page = visit()
    verdicts = [
        c["verdict"] for key in ("icr", "anyloss", "fullrank") for c in results(site, key)["claims"]
        if c["role"] == "claim" and c.get("origin", "paper") == "paper"
    ]  # fmt: skip
    legend = dict(
        re.match(r"\S+\s*(.*?)\s+(\d+)$", " ".join(line.split())).groups()  # type: ignore[union-attr]
        for line in page.locator("ul.legend").first.locator("li").all_inner_texts()
    )
    assert int(legend["reproduced"]) == verdicts.count("reproduced")
    assert int(legend["inconclusive"]) == verdicts.count("inconclusive")


# --- the front page --------------------------------------------------------------------------------------------------


def test_filters(visit: Any) -> None:
    page = visit()
    assert len(shown(page)) == len(CARDS)
    page.get_by_label("Find").fill("attention zero-shot")
    assert shown(page) == [CARDS["icr"].title]
    assert page.locator("[data-found]").inner_text() == f"1 of {len(CARDS)} cards"
    assert page.locator("tbody[data-family]:visible").count() == 1
    page.reload()
    assert shown(page) == [CARDS["icr"].title]  # the address keeps the view
    page.get_by_label("Find").fill("")
    page.get_by_label("State").select_option("stale")
    assert shown(page) == [CARDS["fullrank"].title]
    page.get_by_label("State").select_option("")
    page.get_by_label("Family").select_option("vision")
    assert len(shown(page)) == sum(c.family == "vision" for c in CARDS.values())
    page.get_by_label("Family").select_option("")
    page.get_by_label("With a claim").select_option("reproduced")
    assert 1 <= len(shown(page)) <= 4


def test_sorting_says_so_and_keeps_families(visit: Any) -> None:
    page = visit()
    head = page.locator("thead th", has_text="CPU time")
    assert head.get_attribute("aria-sort") == "none"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    values = page.evaluate(
        "[...document.querySelectorAll('tbody[data-family]')].map(b => [...b.querySelectorAll('[data-paper]')]"
        ".map(r => Number(r.cells[3].dataset.v)))"
    )
    assert all(group == sorted(group, reverse=True) for group in values)
    assert page.locator("tbody tr:first-child.family").count() == page.locator("tbody[data-family]").count()
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    title = page.locator("thead th", has_text="Paper")
    title.locator("button").click()
    assert head.get_attribute("aria-sort") == "none"
    first = page.locator("tbody[data-family='vision'] [data-paper] th a").all_inner_texts()
    assert first == sorted(first, key=str.lower)


def test_a_mark_leads_to_its_claim(visit: Any) -> None:
    page = visit()
    page.locator("a.chip[href^='icr/']").first.click()
    page.wait_for_url(re.compile(r"icr/index\.html#claim-"))
    target = page.locator("article.claim:target")
    assert target.locator("h3").inner_text() == CARDS["icr"].claims[0]["sentence"].strip()


# --- the page of a paper ---------------------------------------------------------------------------------------------


def test_details_open_by_keyboard_and_by_link(visit: Any) -> None:
    page = visit("icr/index.html")
    summary = page.locator("article.claim details summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("article.claim details[open] dl").first.is_visible()
    page.locator("article.claim details[open] a[href^='#queries-']").first.click()
    page.locator("details.queries[open] .query").first.wait_for()
    assert page.locator("details.queries[open]").count() == 1


def test_documents_with_html_or_script_are_shown_as_text(visit: Any) -> None:
    page = visit("icr/index.html")
    for details in page.locator("details.queries, details.query").all():
        details.evaluate("d => { d.open = true }")
    title = page.title()
    texts = page.locator("details.query").all_inner_texts()
    assert any(HOSTILE[0] in t for t in texts)
    assert any("</script><script>" in t for t in texts)
    assert any("שלום" in t and "🦊" in t for t in texts)
    page.wait_for_timeout(100)
    assert page.title() == title != "owned"
    assert page.locator("details img").count() == 0
    assert (
        page.locator("details.query q").evaluate_all("qs => Math.max(...qs.map(q => [...q.textContent].length))") <= 200
    )


def test_tables_sort_by_number(visit: Any) -> None:
    page = visit("icr/index.html")
    table = page.locator(".sheet table[data-sortable]", has_text="tokens in").first
    head = table.locator("thead th").nth(1)
    head.locator("button").click()
    values = table.locator("tbody tr td:nth-child(2)").evaluate_all("cs => cs.map(c => Number(c.dataset.v))")
    assert values == sorted(values, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"


@pytest.mark.parametrize("key", ["icr", "fullrank"])
def test_charts_become_interactive(visit: Any, key: str) -> None:
    page = visit(f"{key}/index.html")
    buttons = page.locator("[data-chart]")
    assert buttons.count() >= 3
    for i in range(buttons.count()):
        before = page.locator("figure").nth(i).locator("svg").first.bounding_box()
        buttons.nth(i).click()
        page.locator("figure").nth(i).locator(".plot[data-live]").wait_for(timeout=20_000)
        after = page.locator("figure").nth(i).locator("svg").first.bounding_box()
        assert after["width"] == pytest.approx(before["width"], rel=0.2)
    page.locator("#figure-forest .mark-symbol path").first.hover(force=True)
    page.locator(".vg-tooltip, #vg-tooltip-element").first.wait_for(timeout=5000)


def test_a_chart_has_a_text_and_a_table(visit: Any) -> None:
    page = visit("icr/index.html")
    for figure in page.locator("figure.chart").all():
        assert figure.locator("svg[role=img]").get_attribute("aria-label")
        assert len(figure.locator("figcaption").inner_text()) > 20
        assert figure.locator("details table").count() == 1


def test_copying_a_table(visit: Any, site: Path) -> None:
    page = visit("icr/index.html", permissions=["clipboard-read", "clipboard-write"])
    button = page.locator("[data-copy=tex]:visible").first
    button.click()
    page.get_by_role("button", name="copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == (site / "icr" / "tables" / f"{button.get_attribute('data-of')}.tex").read_text()


def test_colours_follow_the_system_the_choice_and_paper(visit: Any) -> None:
    page = visit("icr/index.html", color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    page.emulate_media(media="screen", color_scheme="dark")
    page.locator("[data-theme-toggle]").click()
    light = page.evaluate(background)
    assert dark != light
    assert "light" in page.locator("[data-theme-toggle]").get_attribute("aria-label")
    page.locator("[data-theme-toggle]").click()
    assert page.evaluate(background) == dark
    page.emulate_media(media="print")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    assert page.locator(".exports:visible").count() == 0


def test_a_page_prints(visit: Any, tmp_path: Path) -> None:
    page = visit("icr/index.html")
    pdf = page.pdf(path=str(tmp_path / "page.pdf"), format="A4")
    assert pdf.startswith(b"%PDF") and len(pdf) > 20_000


# --- access ----------------------------------------------------------------------------------------------------------

CONTRAST = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (color, under) => {
    canvas.fillStyle = `rgb(${under})`; canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (c) => {
    const [r, g, b] = c.map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = (e) => {
    const chain = [];
    for (; e; e = e.parentElement) chain.unshift(getComputedStyle(e).backgroundColor);
    return chain.reduce((under, color) => rgb(color, under), [255, 255, 255]);
  };
  const low = [];
  for (const e of document.querySelectorAll("body *")) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || !e.checkVisibility()) continue;
    if (e.closest(".hidden, .skip, svg")) continue;
    const under = behind(e), style = getComputedStyle(e);
    const [a, b] = [light(rgb(style.color, under)), light(under)].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) low.push(`${e.tagName}.${e.className} '${e.textContent.trim().slice(0, 30)}' ${ratio.toFixed(2)}`);
  }
  return low;
}
"""


@pytest.mark.parametrize("path", ["index.html", "icr/index.html", "fullrank/index.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(visit: Any, path: str, scheme: str) -> None:
    page = visit(path, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true })")
    assert page.evaluate(CONTRAST) == []


def test_the_keyboard_reaches_everything_and_shows_where_it_is(visit: Any) -> None:
    page = visit("icr/index.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        tag, width = page.evaluate(
            "(() => { const e = document.activeElement; return [e.tagName, getComputedStyle(e).outlineWidth]; })()"
        )
        seen.add(tag)
        assert width != "0px", tag
    assert {"A", "BUTTON", "SUMMARY"} <= seen


def test_controls_have_names(visit: Any) -> None:
    for path in ("index.html", "icr/index.html"):
        page = visit(path)
        unnamed = page.evaluate(
            "[...document.querySelectorAll('a, button, select, input, summary, [role=region], [role=img]')].filter("
            "e => !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length)).map(e => e.outerHTML)"
        )
        assert unnamed == []
