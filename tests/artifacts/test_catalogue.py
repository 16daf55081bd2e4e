"""The catalogue: what it may say, and how a wrong one is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rankrepro.artifacts import cache_dir, find, load_catalogue
from rankrepro.errors import ConfigError, UnknownName


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


SEVERAL = """
artifacts:
  - id: toy
    source: files
    files:
      toy/a.json: {sha256: 185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa, size: 20}
      toy/b.json: {sha256: 285348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa, size: 30}
    sources:
      - {hub: owner/toy, revision: abc, paths: {toy: .}}
      - paths: {toy: inside}
        parts:
          - wheel: toy-1
            version: 1.0.0
            sha256: 385348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa
            size: 60
            member: toy/part1
    licence: CC0
    citation: none
"""


def test_several_sources(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SEVERAL)
    toy = load_catalogue(tmp_path / "a.yaml")["toy"]
    hub, parts = toy.places
    assert hub.paths == {"toy/a.json": "a.json", "toy/b.json": "b.json"} and hub.size == 50
    assert parts.paths == {"toy/a.json": "inside/a.json", "toy/b.json": "inside/b.json"} and parts.size == 60
    assert (toy.size, toy.unpacked) == (60, 50) and toy.inner == ("toy/a.json", "toy/b.json")


@pytest.mark.parametrize(
    ("old", "new", "error", "says"),
    [
        ("hub: owner/toy", "hug: owner/toy", ConfigError, "source number 1: needs one of the keys wheel, sdist, parts"),
        ("revision: abc, ", "", ConfigError, "source number 1: key 'revision' is missing"),
        ("hub: owner/toy", "hub: toy", ConfigError, "key 'hub'"),
        ("paths: {toy: .}", "paths: {tyo: .}", UnknownName, "unknown file 'tyo'; known: toy/a.json"),
        ("      - paths: {toy: inside}\n        parts:", "      - parts:", ConfigError, "key 'paths' says where"),
        ("            member: toy/part1\n", "", ConfigError, "source number 2, part 1: key 'member' is missing"),
        ("member: toy", "mebmer: toy", UnknownName, "did you mean 'member'"),
        ("size: 20}", "}", ConfigError, "file 'toy/a.json': key 'size' is missing"),
        ("toy/a.json:", "../a.json:", ConfigError, "could leave"),
        ("source: files", "source: wheel", UnknownName, "unknown key 'files'"),
    ],
)
def test_a_wrong_source_is_named(tmp_path: Path, old: str, new: str, error: type[ConfigError], says: str) -> None:
    assert old in SEVERAL
    (tmp_path / "artifacts.yaml").write_text(SEVERAL.replace(old, new, 1))
    with pytest.raises(error, match=r"artifacts\.yaml: artifact 'toy'") as caught:
        load_catalogue(tmp_path / "artifacts.yaml")
    assert says in str(caught.value)


def test_a_source_archive_has_no_archives_inside(tmp_path: Path) -> None:
    rows = GOOD.replace("source: wheel", "source: sdist").replace("toy/a.json", "x.zip!toy/a.json")
    (tmp_path / "a.yaml").write_text(rows)
    with pytest.raises(ConfigError, match="read as a stream"):
        load_catalogue(tmp_path / "a.yaml")


def test_published_names_stay() -> None:
    """Results name an artifact by its digest: one that got more sources keeps the one it had."""
    minilm = load_catalogue()["all-minilm-l6-v2"]
    assert minilm.digest == "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
    assert minilm.folder == "all-minilm-l6-v2-0.1.0-b9a0018dff09" and len(minilm.places) == 3
