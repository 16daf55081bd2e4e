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
from rankrepro.store import Store, digest_of


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
