"""Invented text: topics of their own words, documents and queries about them. The same on every machine."""

from __future__ import annotations

import random
from dataclasses import dataclass

ONSETS = ("b", "br", "d", "dr", "f", "gl", "k", "l", "m", "n", "p", "pl", "r", "s", "st", "t", "tr", "v")
NUCLEI = ("a", "e", "i", "o", "u", "ai", "ou")
CODAS = ("", "l", "m", "n", "r", "s", "t")
COMMON = ("the", "of", "and", "a", "in", "to", "is", "was", "it", "for", "with", "as", "on", "by", "at", "from", "that")
MARKS = ("", "", "", ",", " (see [A] and [B]):", ' "quoted"', " é", " <|eot_id|>", " 12.5 %")  # what text really holds


@dataclass(frozen=True)
class Text:
    """title, body, and the topic it is about."""

    title: str
    body: str
    topic: int


class Writer:
    """Documents and queries of `topics` topics, drawn from the name of a collection."""

    def __init__(self, name: str, topics: int) -> None:
        self.rng = random.Random(f"stand-in\t{name}")
        self.words = [[self._word() for _ in range(6)] for _ in range(topics)]

    def _word(self) -> str:
        return "".join(self.rng.choice(part) for _ in range(2) for part in (ONSETS, NUCLEI, CODAS))

    def document(self, topic: int) -> Text:
        vocabulary = self.words[topic]
        body = [
            self.rng.choice(vocabulary if self.rng.random() < 0.4 else COMMON) for _ in range(self.rng.randint(12, 60))
        ]
        marked = [word + self.rng.choice(MARKS) if self.rng.random() < 0.15 else word for word in body]
        return Text(" ".join(self.rng.sample(vocabulary, 2)).title(), f"Stand-in: {' '.join(marked)}.", topic)

    def query(self, topic: int) -> str:
        return " ".join(["what is", *self.rng.sample(self.words[topic], 3)]) + "?"
