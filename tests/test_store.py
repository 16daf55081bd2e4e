"""The store: whole, immutable folders or nothing."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rankrepro.errors import StoreError
from rankrepro.store import Store, digest_of, room, write_whole


def test_round_trip(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.put("a" * 64, {"name": "x"}, {"wall_s": 1.0}, output={"main": {"type": "facts", "values": {"n": 1}}})
    assert store.has("a" * 64)
    assert store.output("a" * 64)["main"]["values"] == {"n": 1}
    assert store.cost("a" * 64) == {"wall_s": 1.0}
    store.put("b" * 64, {}, {}, arrays={"x": np.arange(6.0).reshape(2, 3)})
    assert store.arrays("b" * 64)["x"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_second_put_changes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.put("a" * 64, {}, {}, output={"n": 1})
    store.put("a" * 64, {}, {}, output={"n": 2})
    assert store.output("a" * 64) == {"n": 1}
    assert [p.name for p in (tmp_path / "store").iterdir()] == ["a" * 64]


def test_nan_never_reaches_the_disk(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(ValueError, match="JSON"):
        store.put("a" * 64, {}, {}, output={"n": float("nan")})
    assert not store.has("a" * 64)
    assert list((tmp_path / "store").iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match=r"make the (results )?folder writable"):
        Store(tmp_path / "store").put("a" * 64, {}, {}, output={})


def test_a_write_cut_short_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys; from pathlib import Path; from rankrepro.store import Store\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "Store(Path(sys.argv[1])).put('a' * 64, {}, {}, output={'x': 'y' * 5000})"
    )
    assert resource.RLIMIT_FSIZE is not None
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "store")], capture_output=True, text=True)
    assert "StoreError" in done.stderr
    assert list((tmp_path / "store").iterdir()) == []


def test_damaged_results_name_the_remedy(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.put("a" * 64, {}, {}, output={"n": 1})
    (store.path("a" * 64) / "output.json").write_text('{"n": ')
    with pytest.raises(StoreError, match="run the same command again: only this result"):
        store.output("a" * 64)


def test_digest_ignores_key_order_only() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of(json.loads('{"b": 2, "a": 1}'))
    assert digest_of({"a": 1}) != digest_of({"a": 1.5})


# --- damaged results are made again ---


@pytest.fixture
def stored(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    store.put("a" * 64, {"name": "x"}, {"wall_s": 1.0}, output={"n": 1})
    return store


@pytest.mark.parametrize("name", ["output.json", "cost.json", "manifest.json"])
@pytest.mark.parametrize("harm", ["cut short", "deleted"])
def test_a_damaged_result_is_not_there_and_makes_way(stored: Store, name: str, harm: str) -> None:
    file = stored.path("a" * 64) / name
    file.unlink() if harm == "deleted" else file.write_bytes(file.read_bytes()[:-2])
    assert not stored.has("a" * 64)
    stored.put("a" * 64, {"name": "x"}, {"wall_s": 2.0}, output={"n": 1})
    assert stored.has("a" * 64)
    assert stored.output("a" * 64) == {"n": 1}
    assert stored.cost("a" * 64) == {"wall_s": 2.0}


def test_a_changed_result_is_found_when_read_and_then_made_again(stored: Store) -> None:
    (stored.path("a" * 64) / "output.json").write_text('{"n":2}')  # as long as the true one
    assert stored.has("a" * 64)
    with pytest.raises(StoreError, match="its bytes have changed"):
        stored.output("a" * 64)
    assert not stored.has("a" * 64)


def test_who_asks_for_what_a_result_never_had_harms_nothing(stored: Store) -> None:
    with pytest.raises(StoreError, match=r"never had arrays\.safetensors, only cost\.json, output\.json"):
        stored.arrays("a" * 64)
    assert stored.has("a" * 64) and stored.output("a" * 64) == {"n": 1}


def test_a_result_is_read_as_what_it_is(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put("a" * 64, {}, {}, output={"main": {"type": "text", "values": {"q": "x"}}})
    store.put("b" * 64, {}, {}, arrays={"x": np.arange(3)})
    assert store.result("a" * 64) == {"main": {"q": "x"}}
    assert store.result("b" * 64)["x"].tolist() == [0, 1, 2]
    (store.path("b" * 64) / "arrays.safetensors").unlink()
    with pytest.raises(StoreError, match="missing or damaged"):
        store.result("b" * 64)


def test_changed_arrays_are_found(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.put("b" * 64, {}, {}, arrays={"x": np.arange(6.0)})
    file = store.path("b" * 64) / "arrays.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(StoreError, match="its bytes have changed"):
        store.arrays("b" * 64)


def test_what_a_killed_process_left_of_a_result_is_removed(stored: Store) -> None:
    for digest in ("a" * 64, "c" * 64):
        temporary = stored.folder / f".tmp-{digest[:16]}-1"
        temporary.mkdir()
        (temporary / "output.json").write_text("{")
        stored.put(digest, {}, {}, output={"n": 1})
        assert not temporary.exists()


def test_a_full_disk_is_a_typed_error() -> None:
    with (
        pytest.raises(StoreError, match="free disk space, then run the same command again"),
        room(Path("results")),
        Path("/dev/full").open("w") as file,
    ):
        file.write("x")
    with pytest.raises(FileNotFoundError), room(Path("results")):
        Path("/nowhere/at/all").read_text()


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.json", "1")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "a.json", "\ud800")
    assert [f.name for f in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "1"
