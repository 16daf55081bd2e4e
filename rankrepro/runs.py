"""Rankings as TREC run files: named after their cell, hashed, and read back with every line checked."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path

from rankrepro.errors import RunFileError
from rankrepro.store import write_whole

FOLDER = "RANKREPRO_RUNS"  # the variable that names a folder of runs made elsewhere


def write_run(folder: Path, name: str, digest: str, values: Mapping[str, Mapping[str, float]]) -> Path:
    """Write `folder/<name>-<digest>.trec` and its `.sha256`. `values`: query -> document -> score, best first."""
    file = folder / f"{name}-{digest[:12]}.trec"
    sidecar = file.with_suffix(".sha256")
    if file.exists() and sidecar.exists():
        return file
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        f"{_escape(q)} Q0 {_escape(d)} {rank} {float(score)!r} {name}\n"
        for q, scores in values.items()
        for rank, (d, score) in enumerate(scores.items(), 1)
    ]
    text = "".join(lines)
    write_whole(sidecar, f"{hashlib.sha256(text.encode()).hexdigest()}  {file.name}\n")
    write_whole(file, text)
    return file


def read_run(
    file: Path,
    queries: Collection[str] | None = None,
    documents: Collection[str] | None = None,
    foreign: bool = False,
) -> dict[str, dict[str, float]]:
    """Query -> document -> score, best first. Raises RunFileError naming file and line.

    With `queries` and `documents` (ids of a benchmark) every id must be one of them. A sidecar `.sha256` is checked.
    `foreign`: a run of another tool: the last line may lack its line end, lines may be empty, and ids of documents may
    have blanks. A file named `.gz` is unpacked.
    """
    try:
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise RunFileError(f"{file}: not a complete gzip file ({error}); copy or write it again") from error
    except OSError as error:
        raise RunFileError(f"{file}: cannot be read ({error.strerror})") from error
    sidecar = file.with_suffix(".sha256")
    if sidecar.exists() and sidecar.read_text().split()[0] != hashlib.sha256(raw).hexdigest():
        raise RunFileError(f"{file}: its bytes do not match {sidecar.name}; write the run again")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise RunFileError(
            f"{file}: not a text file; a TREC run has lines 'query Q0 document rank score tag'"
        ) from None
    if not text.endswith("\n") and not foreign:
        raise RunFileError(f"{file}: the last line has no line end: the file is truncated; copy or write it again")
    run: dict[str, dict[str, float]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{file}:{number}"
        parts = line.split()
        if foreign and not parts:
            continue
        if foreign and len(parts) > 6:
            parts = [*parts[:2], " ".join(parts[2:-3]), *parts[-3:]]
        if len(parts) != 6:
            raise RunFileError(f"{where}: {len(parts)} fields; a TREC run line has 6: query Q0 document rank score tag")
        query, document = _unescape(parts[0]), _unescape(parts[2])
        try:
            score = float(parts[4])
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise RunFileError(f"{where}: score '{parts[4]}' is not a finite number")
        if queries is not None and query not in queries:
            raise RunFileError(f"{where}: query '{query}' is not in this benchmark; is the run of another one?")
        if documents is not None and document not in documents:
            raise RunFileError(f"{where}: document '{document}' is not in this benchmark; is the run of another one?")
        if document in run.setdefault(query, {}):
            raise RunFileError(f"{where}: document '{document}' appears twice for query '{query}'")
        run[query][document] = score
    if not run:
        raise RunFileError(f"{file}: is empty; an empty run cannot be judged")
    return {q: dict(sorted(s.items(), key=lambda item: (-item[1], item[0]))) for q, s in run.items()}


def made_elsewhere(file: str, sha256: str) -> dict[str, dict[str, float]]:
    """A run file below the folder that $RANKREPRO_RUNS names, or `runs` of the checkout, as `read_run` gives it.

    sha256: of the file's bytes, as a card states it: part of the result's digest. Raises RunFileError for a path
    outside of the folder, a missing file, and bytes that are not those of the card.
    """
    folder = Path(os.environ.get(FOLDER) or Path(__file__).parents[1] / "runs").resolve()
    path = (folder / file).resolve()
    if not path.is_relative_to(folder):
        raise RunFileError(f"{file}: outside of {folder}; copy the run there and name it in the card's params.file")
    try:
        actual = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise RunFileError(
            f"{path}: cannot be read ({error.strerror}); put the run there, or name its folder with {FOLDER}"
        ) from error
    if actual != sha256:
        raise RunFileError(
            f"{path}: its sha256 is {actual}, the card's params.sha256 says {sha256}: correct one of them"
        )
    return read_run(path, foreign=True)


def _escape(name: str) -> str:
    """Ids may hold spaces, TREC fields may not: `%20`, and `%25` for the percent sign."""
    return name.replace("%", "%25").replace(" ", "%20")


def _unescape(name: str) -> str:
    return name.replace("%20", " ").replace("%25", "%")
