"""`tau2/banking`: scenarios to the documents they require."""

from __future__ import annotations

import gzip
import json

import pytest
from ends import ends

from rankrepro.benchmarks import tau2
from rankrepro.errors import BenchmarkError


def test_first_and_last(built):
    benchmark, truth, _ = built("tau2/banking")
    assert ends(benchmark) == ["fb4020c930cd", "d0e04f07886f", "24bcee2485b9", "f479b58247a1"]
    first, *_, last = benchmark.corpus.values()
    assert first.id == "doc_bank_accounts_bank_accounts_(general)_001"
    assert first.title == "Internal: Opening Personal Checking Accounts"
    assert last.id == "doc_savings_accounts_silver_plus_account_009"
    assert truth.qrels["task_001"] == {
        f"doc_credit_cards_{metal}_rewards_card_001": 1 for metal in ("gold", "silver", "bronze", "platinum")
    }


def test_a_scenario_needs_many_documents(built):
    truth = built("tau2/banking")[1]
    assert sum(map(len, truth.qrels.values())) / len(truth.qrels) == pytest.approx(9.8, abs=0.05)


def test_a_required_document_that_does_not_exist(tmp_path):
    folder = tmp_path / tau2.FOLDER
    folder.mkdir(parents=True)
    with gzip.open(folder / "documents.json.gz", "wt") as f:
        json.dump([{"id": "d1", "title": "T", "content": "text"}], f)
    scenario = {"id": "s1", "user_scenario": {"instructions": "Ask."}, "required_documents": ["d2"]}
    (folder / "tasks.json").write_text(json.dumps([scenario]))
    with pytest.raises(BenchmarkError, match="s1 needs d2, which is no document"):
        tau2.build("tau2/banking", {"inspect-evals": tmp_path}, {"shares": {"test": 1.0}})
