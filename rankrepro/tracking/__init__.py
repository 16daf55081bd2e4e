"""MLflow: one experiment per paper, one run per stored result, and one run with the paper's verdicts.

Jobs write files; this one ingest writes MLflow from them, keyed by digest. It may be killed or repeated, and its store
deleted: the same command completes or rebuilds it. The store is `results/mlflow.db` with files in
`results/mlartifacts`, or what MLFLOW_TRACKING_URI names.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rankrepro import lock
from rankrepro.cards import Card, load_cards
from rankrepro.errors import UnknownName
from rankrepro.tracking.client import Tracker, database, shown, typed
from rankrepro.tracking.records import Judged

MARKER = "tracked.json"  # under results/<scale>: which results are in which store
WAIT = 600.0  # seconds for the ingest of another scale to end

log = logging.getLogger(__name__)


def ingest(papers: Sequence[str], scale: str, results: Path) -> Counter[str]:
    """Write judged papers of `results` (results/<scale>) to MLflow. Returns runs `written`, `updated`, `unchanged`.

    Params and metrics cannot be taken back in MLflow: where they changed, the run is replaced (and the old one lies in
    MLflow's bin). Verdicts, tags and files are brought up to date in place. Files above 5 MB are not copied: the tag
    `not_copied` says where they are.

    Raises StoreError where a judged file or a result is missing, TrackingError where MLflow cannot be written,
    LockedError where another ingest of the folder does not end.
    """
    cards = load_cards()
    for key in papers:
        if key not in cards:
            raise UnknownName("paper", key, cards)
    root, counts = results.parent, Counter[str]()
    judged = [Judged(key, scale, results) for key in papers]
    with lock.alone(root, WAIT):
        with typed(root):
            tracker = Tracker(root)
            if tracker.fresh:  # the runs of other scales were lost with the old store
                for marker in root.glob(f"*/{MARKER}"):
                    marker.unlink()
            for paper in judged:
                changes = _paper(tracker, paper, cards[paper.key])
                counts += changes
                summary = ", ".join(f"{n} {what}" for what, n in changes.items())
                log.info("mlflow: %s: runs: %s, in %s", paper.key, summary, shown(root))
            tracker.finish()
        _mark(results, shown(root), sorted({d for paper in judged for d in paper.data["digests"]}))
    return counts


def unmark(results: Path) -> None:
    """Forget the marker of a scale whose store was deleted, so that it is written again."""
    if not os.environ.get("MLFLOW_TRACKING_URI") and not database(results.parent).exists():
        (results / MARKER).unlink(missing_ok=True)


def _paper(tracker: Tracker, paper: Judged, card: Card) -> Counter[str]:
    experiment = tracker.experiment(paper.key, _about(card))
    runs = tracker.runs(experiment, paper.scale)
    counts, reported, total = Counter[str](), time.monotonic(), len(paper.paper["cells"]) + 1
    ids = set()
    for i, record in enumerate(paper.records(), 1):
        ids.add(record.id)
        counts[tracker.write(experiment, record, runs.get(record.id))] += 1
        if time.monotonic() - reported > 5:
            log.info("mlflow: %s: %d of %d runs", paper.key, i, total)
            reported = time.monotonic()
    for old in (runs[i] for i in runs if i not in ids):
        tracker.supersede(old)
    return counts


def _about(card: Card) -> dict[str, str]:
    return {
        "title": card.title,
        "year": str(card.year),
        "link": card.link,
        "family": card.family,
        "mlflow.experimentKind": "custom_model_development",  # the pages for runs with metrics, not those for prompts
        "mlflow.note.content": f"{card.title} ({card.year})\n\n{card.summary}\n\n{card.link}",
    }


def _mark(results: Path, uri: str, digests: list[str]) -> None:
    temporary = results / f"{MARKER}.tmp"
    temporary.write_text(json.dumps({"uri": uri, "digests": digests}, indent=1))
    temporary.rename(results / MARKER)


__all__ = ["MARKER", "ingest", "shown", "unmark"]
