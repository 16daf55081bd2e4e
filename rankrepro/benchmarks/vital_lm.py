"""`vital/lm` and `vital-mini/lm`: the introductions of vital articles as tokens, for language models.

A test article is the unit. Training articles are one stream of tokens, an end token before each; the byte-pair encoder
is trained on them alone. Truth has the number of tokens of every test article, so that the judge can check that no
token was left out of a likelihood.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from rankrepro.benchmarks import vital
from rankrepro.benchmarks.base import Document, sample
from rankrepro.errors import BenchmarkError

END = "<|end|>"  # before every article; id 0


@dataclass(frozen=True)
class LmBenchmark:
    """Token ids, int32. `train` [tokens]: all training articles; `validation`, `test`: article -> its tokens [n].

    The tokens of an article do not include the end token that stands before it.
    """

    id: str
    vocabulary: int
    end: int
    train: np.ndarray
    validation: Mapping[str, np.ndarray]
    test: Mapping[str, np.ndarray]

    @property
    def sizes(self) -> dict[str, int]:
        """Test article -> the number of its tokens."""
        return {name: len(tokens) for name, tokens in self.test.items()}

    @property
    def units(self) -> list[str]:
        return list(self.test)


@dataclass(frozen=True)
class LmTruth:
    """Test article -> number of its tokens, and its cluster: every article stands for itself."""

    tokens: Mapping[str, int]
    clusters: Mapping[str, str]


def build(benchmark_id: str, sources: Mapping[str, Path], params: Mapping[str, Any]) -> tuple[LmBenchmark, LmTruth]:
    """One benchmark. `sources`: the folder of the artifact vital-articles.

    `params`: `validation` and `test` (numbers of articles, by hash; the others train), `train` (at most so many
    training articles), `vocabulary` (tokens of the encoder), `max_tokens` (an article is cut after).
    """
    articles = vital.read_articles(sources["vital-articles"])
    split = assign(list(articles), params)
    encoder = train_encoder([articles[a].content for a in split["train"]], params["vocabulary"])
    encoded = {name: encode(encoder, [articles[a] for a in ids], params["max_tokens"]) for name, ids in split.items()}
    end = encoder.token_to_id(END)
    stream = np.concatenate([np.append(np.int32(end), tokens) for tokens in encoded["train"].values()])
    benchmark = LmBenchmark(
        benchmark_id, encoder.get_vocab_size(), end, stream.astype(np.int32), encoded["validation"], encoded["test"]
    )
    return benchmark, LmTruth({a: len(t) for a, t in benchmark.test.items()}, {a: a for a in benchmark.test})


def fingerprint() -> str:
    """The package that trains the encoder, and the module that reads the articles."""
    code = hashlib.sha256(Path(vital.__file__).read_bytes()).hexdigest()
    return f"tokenizers {metadata.version('tokenizers')}, vital.py {code}"


def assign(ids: Sequence[str], params: Mapping[str, Any]) -> dict[str, list[str]]:
    """Split -> article ids, in a fixed order by hash: first the test, then the validation articles.

    The seed is the parent's id, so that an article of vital-mini/lm is in the split it has in vital/lm.
    """
    test = sample("vital/lm", list(ids), params["test"])
    rest = sorted(set(ids) - set(test))
    validation = sample("vital/lm validation", rest, params["validation"])
    train = sample("vital/lm train", sorted(set(rest) - set(validation)), params.get("train"))
    if not train:
        raise BenchmarkError(f"{len(ids)} articles leave none to train on; lower `test` and `validation`")
    return {"train": train, "validation": validation, "test": test}


def train_encoder(texts: Sequence[str], vocabulary: int) -> Any:
    """A byte-level byte-pair encoder (tokenizers.Tokenizer) of `vocabulary` tokens; END is token 0."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    encoder = Tokenizer(models.BPE())
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoder.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    encoder.train_from_iterator(texts, trainer)
    return encoder


def encode(encoder: Any, articles: Sequence[Document], max_tokens: int) -> dict[str, np.ndarray]:
    """Article -> its first `max_tokens` token ids, int32."""
    encodings = encoder.encode_batch([a.content for a in articles], add_special_tokens=False)
    return {a.id: np.array(e.ids[:max_tokens], dtype=np.int32) for a, e in zip(articles, encodings, strict=True)}


# --- on disk ---------------------------------------------------------------------------------------------------------


def write(folder: Path, benchmark: LmBenchmark, truth: LmTruth) -> None:
    """Inputs to `tokens.safetensors` and `articles.json`, truth to `truth/`; `folder` must exist."""
    from safetensors.numpy import save_file

    held = {"validation": benchmark.validation, "test": benchmark.test}
    tensors = {name: np.concatenate(list(articles.values())) for name, articles in held.items()}
    save_file({"train": benchmark.train, **tensors}, folder / "tokens.safetensors")
    lengths = {name: {a: len(tokens) for a, tokens in articles.items()} for name, articles in held.items()}
    about = {"vocabulary": benchmark.vocabulary, "end": benchmark.end, **lengths}
    (folder / "articles.json").write_text(json.dumps(about, ensure_ascii=False, indent=0), encoding="utf-8")
    (folder / "truth").mkdir()
    for name in ("tokens", "clusters"):
        text = json.dumps(getattr(truth, name), ensure_ascii=False, sort_keys=True, indent=0)
        (folder / "truth" / f"{name}.json").write_text(text, encoding="utf-8")


def read(folder: Path, benchmark_id: str) -> LmBenchmark:
    """Inputs only: this never opens `folder/truth`."""
    from safetensors.numpy import load_file

    if not (folder / "articles.json").exists():
        raise BenchmarkError(f"{folder / 'articles.json'} is missing: delete {folder} and run again")
    about = json.loads((folder / "articles.json").read_text(encoding="utf-8"))
    tensors = load_file(folder / "tokens.safetensors")

    def articles(name: str) -> dict[str, np.ndarray]:
        ends = np.cumsum(list(about[name].values()))[:-1]
        return dict(zip(about[name], np.split(tensors[name], ends), strict=True))

    held = articles("validation"), articles("test")
    return LmBenchmark(benchmark_id, about["vocabulary"], about["end"], tensors["train"], *held)


def read_truth(folder: Path) -> LmTruth:
    """Truth, for the judge alone."""
    load = (json.loads((folder / "truth" / f"{n}.json").read_text(encoding="utf-8")) for n in ("tokens", "clusters"))
    return LmTruth(*load)
