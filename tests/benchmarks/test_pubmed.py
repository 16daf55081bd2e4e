"""`pubmed/mesh`: headings graded by what indexers said of an article."""

from __future__ import annotations

import gzip
from collections import Counter

from ends import ends

from rankrepro.benchmarks import pubmed

RECORD = """
<PubmedArticle><MedlineCitation><PMID>{id}</PMID><Article><ArticleTitle>On <i>a</i> thing</ArticleTitle>{abstract}
</Article><MeshHeadingList>
<MeshHeading><DescriptorName UI="D1" MajorTopicYN="Y">Major</DescriptorName></MeshHeading>
<MeshHeading><DescriptorName UI="D2" MajorTopicYN="N">Qualified</DescriptorName>
<QualifierName UI="Q1" MajorTopicYN="Y">of it</QualifierName></MeshHeading>
<MeshHeading><DescriptorName UI="D3" MajorTopicYN="N">Minor</DescriptorName></MeshHeading>
</MeshHeadingList></MedlineCitation></PubmedArticle>"""
ABSTRACT = "<Abstract><AbstractText>One <b>bold</b></AbstractText><AbstractText>word.</AbstractText></Abstract>"


def test_a_record(tmp_path):
    records = RECORD.format(id=1, abstract=ABSTRACT) + RECORD.format(id=2, abstract="")
    file = tmp_path / "records.xml.gz"
    file.write_bytes(gzip.compress(f"<PubmedArticleSet>{records}</PubmedArticleSet>".encode()))
    names: dict[str, str] = {}
    assert list(pubmed.records(file, names)) == [
        pubmed.Record("1", "On a thing", "One bold word.", {"D1": 2, "D2": 2, "D3": 1})
    ]
    assert names == {"D1": "Major", "D2": "Qualified", "D3": "Minor"}


def test_first_and_last(built):
    assert ends(built("pubmed/mesh")[0]) == ["f85116f25107", "d6f8f9a8728d", "c82abc5a08f8", "568053b879a7"]


def test_a_heading_is_a_major_topic_of_ten_to_twenty_articles(built):
    _, truth, _ = built("pubmed/mesh")
    major = [sum(grade == 2 for grade in judged.values()) for judged in truth.qrels.values()]
    assert (min(major), max(major)) == (10, 20)
    assert Counter(grade for judged in truth.qrels.values() for grade in judged.values()) == {1: 14_150, 2: 9_686}
