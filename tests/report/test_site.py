"""The site as files: complete, self-contained, the same again from the reports folder alone, and safe."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from synthetic import build_site

from rankrepro import report
from rankrepro.cards import load_cards
from rankrepro.errors import ConfigError
from rankrepro.report.pages import prose

CARDS = load_cards()
LOADS = {"src", "srcset", "data", "poster", "action", "formaction", "background", "xlink:href"}


class Page(HTMLParser):
    """Tags, what they load, where links lead, and the ranks of headings."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.loads += [value or ""] if name in LOADS or (tag == "link" and name == "href") else []
            self.links += [value or ""] if tag == "a" and name == "href" else []
            self.ids += [value or ""] if name == "id" else []
            self.handlers += [name] if name.startswith("on") else []
        self.headings += [int(tag[1])] if re.fullmatch("h[1-6]", tag) else []


def pages(site: Path) -> list[Path]:
    return [site / "index.html", *sorted(site.glob("*/index.html"))]


def test_every_card_has_a_page_and_the_front_page_lists_it(site: Path) -> None:
    front = Page(site / "index.html")
    for key in CARDS:
        assert (site / key / "index.html").exists()
        assert f"{key}/index.html" in front.links


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for file in pages(site):
        page = Page(file)
        assert set(page.loads) <= {"data:,"}, f"{file} loads {page.loads}"
        assert not page.handlers
        outside = {link for link in page.links if "://" in link}
        card = CARDS.get(file.parent.name)
        allowed = {card.link, f"https://github.com/{card.code}"} if card else set()
        assert outside <= allowed
        styles = "".join(re.findall(r"<style>(.*?)</style>", file.read_text(), flags=re.S))
        assert "url(" not in styles and "@import" not in styles


def test_links_lead_somewhere(site: Path) -> None:
    for file in pages(site):
        page = Page(file)
        assert len(page.ids) == len(set(page.ids)), f"{file}: an id twice"
        for link in (x for x in page.links if "://" not in x):
            path, _, fragment = link.partition("#")
            target = file.parent / path if path else file
            assert target.exists(), f"{file}: {link}"
            if fragment and target.suffix == ".html":
                assert fragment in Page(target).ids, f"{file}: {link}"


def test_headings_are_in_order(site: Path) -> None:
    for file in pages(site):
        ranks = Page(file).headings
        assert ranks[0] == 1 and ranks.count(1) == 1
        assert all(b <= a + 1 for a, b in pairwise(ranks)), f"{file}: {ranks}"


def test_texts_of_documents_are_text(site: Path) -> None:
    source = (site / "icr" / "index.html").read_text()
    assert "&lt;script&gt;document.title" in source
    assert "<script>document" not in source and "<img" not in source
    page = Page(site / "icr" / "index.html")
    assert page.tags.count("script") == 3  # ours, and two blocks of JSON
    blocks = re.findall(r'<script type="application/json" id="\w+">(.*?)</script>', source, flags=re.S)
    assert len(blocks) == 2
    for block in blocks:
        json.loads(block)


def test_numbers_on_the_page_are_those_of_the_results(site: Path) -> None:
    results = json.loads((site / "icr" / "results.json").read_text())
    source = (site / "icr" / "index.html").read_text()
    for table in results["papers"]["icr"]["tables"]:
        for row in table["rows"]:
            assert f"{row['value']:.3f}" in source
    csv = (site / "icr" / "tables" / "re-ranking-the-bm25-top-20-ndcg-10-on-each-benchmark.csv").read_text()
    assert len(csv.splitlines()) == 1 + sum(
        r["measure"] == "nDCG@10" for r in results["papers"]["icr"]["tables"][0]["rows"]
    )


def test_the_site_comes_again_from_the_reports_folder_alone(site: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    for key in ("icr", "anyloss", "fullrank"):
        (again / key).mkdir(parents=True)
        for name in ("results.json", "examples.json", "units.json.gz"):
            shutil.copy(site / key / name, again / key)
    (again / "jobs").mkdir()
    shutil.copy(site / "jobs" / "jobs.json", again / "jobs")
    report.rebuild(again, "desk")
    files = {p.relative_to(site) for p in site.rglob("*") if p.is_file()} - {Path("summary.md")}
    assert files == {p.relative_to(again) for p in again.rglob("*") if p.is_file()}
    for file in files:
        assert (site / file).read_bytes() == (again / file).read_bytes(), file


def test_units_are_packed_to_the_same_bytes(tmp_path: Path) -> None:
    judged = tmp_path / "judged"
    judged.mkdir()
    for name in ("results", "units", "examples"):
        (judged / f"{name}.json").write_text('{"scale": "quick"}')
    report.shelf.collect(judged, tmp_path / "one", CARDS)
    report.shelf.collect(judged, tmp_path / "two", CARDS)
    packed = (tmp_path / "one" / "units.json.gz").read_bytes()
    assert packed == (tmp_path / "two" / "units.json.gz").read_bytes()
    assert packed[4:8] == bytes(4)  # no time inside
    assert json.loads(gzip.decompress(packed)) == {"scale": "quick"}


def test_stale_and_not_run_are_marked(site: Path) -> None:
    source = (site / "index.html").read_text()
    states = {
        key: state for state, key in re.findall(r'data-state="(\w+)".*?href="(\w+)/index.html"', source, flags=re.S)
    }
    assert states["icr"] == states["anyloss"] == "current"
    assert states["fullrank"] == "stale"
    assert states["first"] == "none"
    assert "The code has changed since" in (site / "fullrank" / "index.html").read_text()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("results.json", b'{"schema": 1}', "present format"),
        ("results.json", b"{", "cannot be read"),
        ("units.json.gz", b"\x1f\x8b", "cannot be read"),
    ],
)
def test_a_file_that_is_of_no_use_is_named(site: Path, tmp_path: Path, name: str, content: bytes, words: str) -> None:
    shutil.copytree(site / "icr", tmp_path / "icr")
    (tmp_path / "icr" / name).write_bytes(content)
    with pytest.raises(ConfigError, match=words) as error:
        report.rebuild(tmp_path, "desk")
    assert name in str(error.value)


def test_the_summary_of_many_papers_is_short(site: Path, tmp_path: Path) -> None:
    few = (site / "summary.md").read_text()
    assert "| arm " in few and "icr-quality" in few and "index.html" in few
    keys = ["icr", "first", "fol", "fullrank"]
    many = (build_site(tmp_path, keys, "quick", units=6) / "summary.md").read_text()
    assert "| arm " not in many and len(many.splitlines()) < 20
    assert all(re.search(rf"^- {key}: \d+ [a-z ]+((, |; [a-z ]+: )\d+ [a-z ]+)*$", many, re.M) for key in keys), many


def test_prose_of_a_card_is_escaped() -> None:
    assert (
        prose("one <b>\n\n- `x<y`\n- two") == "<p>one &lt;b&gt;</p>\n<ul><li><code>x&lt;y</code></li><li>two</li></ul>"
    )


def test_pictures_stand_beside_their_places_and_in_a_contact_sheet(site: Path, tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    shutil.copytree(site, reports)
    file = reports / "icr" / "examples.json"
    examples = json.loads(file.read_text())
    uri = "data:image/webp;base64,UklGRg=="
    benchmark = next(iter(examples["attribution"]))
    for part in (p for parts in examples["claims"].values() for p in parts if p["benchmark"] == benchmark):
        for detail in part["details"]:
            for shown in (detail, *detail["a"], *detail["b"]):
                shown["picture"] = "one"
            detail["a"][0]["grade"] = -1
    examples["pictures"] = {benchmark: {"one": uri}}
    examples["sheets"] = {benchmark: {"picture": uri, "rows": ["E1M1", "<b>"], "columns": 8}}
    file.write_text(json.dumps(examples))
    report.rebuild(reports, "desk")
    page, words = Page(reports / "icr" / "index.html"), (reports / "icr" / "index.html").read_text()
    assert page.loads.count(uri) > 10 and "junk: not counted" in words
    assert "Contact sheet of" in words and "E1M1, &lt;b&gt;" in words
