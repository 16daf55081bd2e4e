"""A rehearsal of scale paper: stand-ins for what comes from outside, made on the spot in upstream's formats.

    make(results)    # in results/stand-ins: hub/ (random weights), ir_datasets/ and bright/ (invented text), msls/
    enter(path)      # this process uses the stand-ins of the results folder that `path` lies in, if it has any

Everything stays below `results/rehearsal/stand-ins`; the cache of hub models and the home of ir_datasets are not
touched. A result's digest covers the stand-ins (`version`), so that no rehearsal can be taken for a run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from functools import cache
from pathlib import Path

from rankrepro import artifacts, benchmarks
from rankrepro.benchmarks import bright
from rankrepro.models import miniatures

WORDS = "stand-ins of a rehearsal: random weights, invented texts and pictures; no number from them means anything"


@cache
def version() -> str:
    """Hash of the code that makes the stand-ins."""
    files = [*sorted(Path(__file__).parent.glob("*.py")), Path(miniatures.__file__)]
    return hashlib.sha256(b"\0".join(f.read_bytes() for f in files)).hexdigest()[:16]


def marker(results: Path) -> Path:
    """The file that says that stand-ins of today's version lie beside it, in `results` (of one scale)."""
    return results / "stand-ins" / f"{version()}.json"


def make(results: Path) -> None:
    """Rebuild all stand-ins in `results`; what was built from older ones is deleted.

    Hub models of config/artifacts.yaml, and the benchmarks of ir_datasets, BRIGHT and MSLS that have a card.
    Raises ConfigError for a model or data set of a kind that has no stand-in yet.
    """
    from rankrepro.rehearsal import data, models, streets

    folder = marker(results).parent
    shutil.rmtree(folder, ignore_errors=True)
    stood_in = [e for e in benchmarks.entries() if e.builder in benchmarks.STOOD_IN]
    for entry in stood_in:
        shutil.rmtree(results / "benchmarks" / entry.id, ignore_errors=True)
    hub = [a for a in artifacts.load_catalogue().values() if a.source == "hub"]
    models.make(hub, folder / "hub")
    data.make([e.id for e in stood_in if e.builder == "irds"], folder / "ir_datasets")
    data.make_bright([e.params["task"] for e in stood_in if e.builder == "bright"], folder / "bright")
    for entry in (e for e in stood_in if e.builder == "msls"):
        streets.make(entry.params["cities"], folder / "msls")
    contents = {
        "what": WORDS,
        "version": version(),
        "models": [a.id for a in hub],
        "benchmarks": [e.id for e in stood_in],
    }
    marker(results).write_text(json.dumps(contents, indent=1) + "\n")


def enter(path: Path) -> None:
    """If `path` or a folder above it holds stand-ins, use them from now on in this process.

    Call it before ir_datasets and the hub's client are imported: they read their settings then.
    """
    for folder in (path.absolute(), *path.absolute().parents):
        if marker(folder).is_file():
            os.environ |= environment(marker(folder).parent)
            return


def environment(folder: Path) -> dict[str, str]:
    """The variables that make models, ir_datasets, BRIGHT and MSLS be read from the stand-ins, and nowhere else."""
    from rankrepro.benchmarks import msls  # imports numpy, which a plan does not need

    return {
        artifacts.STAND_INS: str(folder),
        "HF_HUB_OFFLINE": "1",
        "IR_DATASETS_HOME": str(folder / "ir_datasets"),
        "IR_DATASETS_TMP": str(folder / "ir_datasets" / "tmp"),
        bright.FOLDER: str(folder / "bright"),
        msls.FOLDER: str(folder / "msls"),
    }
