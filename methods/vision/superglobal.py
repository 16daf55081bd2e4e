"""SuperGlobal: Global Features are All You Need for Image Retrieval and Reranking (Shao et al., ICCV 2023).

Nothing is trained. Four changes to how a network's last map becomes a descriptor, each a switch, and a re-ranker that
reads descriptors alone. Its controls: alpha query expansion, and matching of local features.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from methods.parts.retrieval.topk import best
from methods.parts.vision.features import feature_map, middle_map, tensor
from rankrepro.cell import Cell, Output, Ranking, Retrieval, Size

Array = np.ndarray


# --- extraction ------------------------------------------------------------------------------------------------------


def gem(x: Tensor, p: float) -> Tensor:
    """(mean over positions of x^p)^(1/p): [n, c, h, w] -> [n, c]. p = 1 is the mean, p -> infinity the maximum."""
    return x.clamp_min(1e-8).pow(p).mean((2, 3)).pow(1 / p)


def regional(x: Tensor, window: int, p: float = 2.5, mix: float = 0.5) -> Tensor:
    """Regional-GeM: x5 = mix L(x) + (1 - mix) x, L the local power mean over window x window, borders reflected."""
    edge = window // 2
    powers = F.pad(x.clamp_min(1e-8).pow(p), (edge, edge, edge, edge), mode="reflect")
    return mix * F.avg_pool2d(powers, window, stride=1).pow(1 / p) + (1 - mix) * x


def over_scales(d: Array, how: str) -> Array:
    """Scale-GeM with p_s -> infinity: the maximum over scales of unit descriptors [scales, n, c]; or their mean."""
    return unit(d.max(0) if how == "max" else d.mean(0))


def unit(d: Array) -> Array:
    return d / np.maximum(np.linalg.norm(d, axis=-1, keepdims=True), 1e-12)


def whitening(g: Array, dims: int) -> tuple[Array, Array]:
    """Mean [c] and projection [c, dims] that turn g [n, c] into uncorrelated numbers of variance 1.

    n points span n - 1 directions; if these are fewer than `dims`, there are only n - 1 columns.
    """
    mean, dims = g.mean(0), min(dims, len(g) - 1)
    _, s, basis = np.linalg.svd(g - mean, full_matrices=False)
    return mean, (basis[:dims] / (s[:dims, None] / np.sqrt(len(g) - 1))).T


def names(cell: Cell) -> list[str]:
    """The rows of every array here: all pictures of the benchmark, sorted by name."""
    return sorted(cell.benchmark.images)  # type: ignore[attr-defined]


@torch.inference_mode()
def features(
    cell: Cell,
    *,
    scales: list[float],
    floor: float,
    pools: list[tuple[int, float]],
    batch: Annotated[int, Size(rehearsal=8)],
) -> dict[str, Array]:
    """Stage: pooled maps `<window>_<p>` [scales, images, c] float16; window 0 is without Regional-GeM.

    floor: of ReLUP, the lower bound of the clamps before the last stage. pools: pairs of window and p.
    """
    order = names(cell)
    pooled: dict[str, list[list[Array]]] = {f"{w}_{e}": [[] for _ in scales] for w, e in pools}
    for start in range(0, len(order), batch):
        pixels = [cell.benchmark.images[n] for n in order[start : start + batch]]  # type: ignore[attr-defined]
        for i, scale in enumerate(scales):
            x = feature_map(cell.models["vision"], tensor(pixels, scale), floor)
            x5 = {w: regional(x, w) if w else x for w, _ in pools}
            for w, e in pools:
                pooled[f"{w}_{e}"][i].append(gem(x5[w], e).cpu().numpy().astype(np.float16))
        cell.progress(start + len(pixels), len(order))
    return {key: np.stack([np.concatenate(part) for part in parts]) for key, parts in pooled.items()}


def descriptors(cell: Cell, *, dims: int, configurations: dict[str, Any]) -> dict[str, Array]:
    """Stage: unit descriptors [images, dims] of each configuration, whitened on queries of training levels.

    dims: 0 for no whitening. configurations: name -> `from` (an input), `pool` (a key of it), `scales` (mean or max)
    and, if it differs, `dims`.
    """
    order = names(cell)
    train = {q.image for q in cell.benchmark.of_split("train").values()}
    rows = [i for i, n in enumerate(order) if n in train]
    vectors = {}
    for name, c in configurations.items():
        g = unit(cell.inputs[c["from"]][c["pool"]].astype(np.float32))  # [scales, images, c]
        if size := c.get("dims", dims):
            mean, projection = whitening(g[:, rows].reshape(-1, g.shape[-1]), size)
            g = unit((g - mean) @ projection)
        vectors[name] = over_scales(g, c["scales"]).astype(np.float32)
    return vectors


# --- the first stage -------------------------------------------------------------------------------------------------


def search(cell: Cell, *, depth: int, permuted: str) -> dict[str, Output]:
    """Rank the database by cosine: one variant for each configuration of the stage `descriptors`.

    `chance` is the placebo: the configuration `permuted` with its database vectors shuffled among the documents.
    depth: length of a ranking.
    """
    row = {n: i for i, n in enumerate(names(cell))}
    documents = sorted(cell.benchmark.corpus)
    columns = [row[cell.document(d).image] for d in documents]
    shuffled = np.random.default_rng(cell.seed).permutation(columns)
    outputs: dict[str, Output] = {}
    for name, d in cell.inputs["descriptors"].items():
        q = d[[row[n] for n in cell.pictures.values()]]
        outputs[name] = Retrieval(_nearest(cell, q, d[columns], documents, depth))
        if name == permuted:
            outputs["chance"] = Retrieval(_nearest(cell, q, d[shuffled], documents, depth))
    return outputs


def sequences(cell: Cell, *, configuration: str, depth: int) -> dict[str, Output]:
    """The same with sequences, a frame's descriptor being the mean over it and its neighbours: seq2im, im2seq, seq2seq.

    A frame without a neighbour on either side keeps its own descriptor; the measures leave it out.
    """
    row = {n: i for i, n in enumerate(names(cell))}
    single = cell.inputs["descriptors"][configuration]
    smooth = single.copy()
    for frames in cell.benchmark.walks.values():  # type: ignore[attr-defined]
        rows = [row[f] for f in frames]
        for a, b, c in zip(rows, rows[1:], rows[2:], strict=False):
            smooth[b] = unit(single[[a, b, c]].mean(0))
    documents = sorted(cell.benchmark.corpus)
    queries, columns = [row[n] for n in cell.pictures.values()], [row[cell.document(d).image] for d in documents]
    kinds = {"im": single, "seq": smooth}
    return {
        f"{a}2{b}": Retrieval(_nearest(cell, kinds[a][queries], kinds[b][columns], documents, depth))
        for a, b in (("seq", "im"), ("im", "seq"), ("seq", "seq"))
    }


def _nearest(cell: Cell, q: Array, x: Array, documents: Sequence[str], depth: int) -> dict[str, dict[str, float]]:
    """Query -> the `depth` documents with the highest cosine, of q [queries, c] and x [documents, c]."""
    return {name: best(documents, scores, depth) for name, scores in zip(cell.queries, q @ x.T, strict=True)}


# --- re-ranking ------------------------------------------------------------------------------------------------------


def refined(v: Array, k: int, beta: float) -> Array:
    """Database refinement of v [m, c]: means of each (weight 1) and its k nearest (beta S_ij), not normalised again."""
    s = v @ v.T  # [m, m]
    weights = np.zeros_like(s)
    np.fill_diagonal(s, np.inf)  # each vector is its own nearest, before any twin
    near = np.argsort(-s, axis=1, kind="stable")[:, : k + 1]
    np.fill_diagonal(s, 0.0)  # 0 * inf would be no number
    np.put_along_axis(weights, near, beta * np.take_along_axis(s, near, 1), 1)
    np.fill_diagonal(weights, 1.0)
    return weights @ v / weights.sum(1, keepdims=True)


def superglobal(q: Array, v: Array, k: int, beta: float) -> Array:
    """Final scores [m] of q [c] and its top candidates v [m, c]: (<q, v'> + <q', v'>) / 2.

    v' are the refined vectors; q' is the maximum, coordinate by coordinate, of the k + 1 nearest to q, not of q itself.
    """
    near = refined(v, k, beta)
    s1 = near @ q
    best = np.argsort(-s1, kind="stable")[: k + 1]
    return (s1 + near @ near[best].max(0)) / 2


def database_only(q: Array, v: Array, k: int, beta: float) -> Array:
    """Refined database vectors, the query as it is."""
    return refined(v, k, beta) @ q


def query_only(q: Array, v: Array, k: int, beta: float) -> Array:
    """The query expanded by max, database vectors as they are."""
    s1 = v @ q
    best = np.argsort(-s1, kind="stable")[: k + 1]
    return (s1 + v @ v[best].max(0)) / 2


def alpha_expansion(q: Array, v: Array, k: int, alpha: float) -> Array:
    """Alpha query expansion (Radenovic et al. 2018): q plus its k nearest, weighted by cosine^alpha, normalised."""
    s1 = v @ q
    best = np.argsort(-s1, kind="stable")[:k]
    return v @ unit(q + (np.maximum(s1[best], 0)[:, None] ** alpha * v[best]).sum(0))


MODES: dict[str, Callable[..., Array]] = {
    "superglobal": superglobal,
    "database_only": database_only,
    "query_only": query_only,
    "alpha": alpha_expansion,
}


Mode = Literal["superglobal", "database_only", "query_only", "alpha"]


def rerank(
    cell: Cell, *, mode: Mode, configuration: str, grid: dict[str, list[float]], permuted: bool = False
) -> Ranking:
    """Re-rank the first m candidates; the others follow in their order.

    configuration: of the stage `descriptors`. grid: m, k and beta or alpha -> the one value of each. permuted:
    candidates get each other's vectors.
    """
    settings = {name: value for name, (value,) in grid.items()}
    score = Reranker(cell, mode, configuration, permuted)
    return Ranking(cell.map(list(cell.queries), lambda queries: {q: score(q, settings) for q in queries}, batch=16))


def tuned(cell: Cell, *, mode: Mode, configuration: str, grid: dict[str, list[float]]) -> Ranking:
    """The same with the values of a grid that are best on validation queries, of all combinations."""
    score = Reranker(cell, mode, configuration)
    options = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    validation = cell.benchmark.of_split("validation")
    judgments = {q: cell.benchmark.judgments[q] for q in validation}
    values = [hard_precision({q: score(q, o) for q in validation}, judgments) for o in options]
    chosen = options[int(np.argmax(values))]
    return Ranking(cell.map(list(cell.queries), lambda queries: {q: score(q, chosen) for q in queries}, batch=16))


class Reranker:
    """Scores of a query's candidates by one mode."""

    def __init__(self, cell: Cell, mode: Mode, configuration: str, permuted: bool = False) -> None:
        self.cell, self.mode, self.permuted = cell, mode, permuted
        self.vectors = cell.inputs["descriptors"][configuration]
        self.row = {name: i for i, name in enumerate(names(cell))}

    def __call__(self, q: str, settings: Mapping[str, float]) -> dict[str, float]:
        parameters = {name: value for name, value in settings.items() if name != "m"}
        docs = list(self.cell.candidates[q])
        rows = np.array([self.row[self.cell.document(x).image] for x in docs[: int(settings["m"])]])
        if self.permuted:
            rows = np.random.default_rng([self.cell.seed, len(docs)]).permutation(rows)
        query = self.vectors[self.row[self.cell.pictures[q]]]
        return with_tail(docs, MODES[self.mode](query, self.vectors[rows], **parameters))


def with_tail(docs: Sequence[str], head: Array) -> dict[str, float]:
    """Scores of the first len(head) documents; the others follow in the order given."""
    scores = {x: float(s) for x, s in zip(docs, head, strict=False)}
    last = min(scores.values())
    return scores | {x: last - 1 - i for i, x in enumerate(docs[len(head) :])}


def hard_precision(scores: Mapping[str, Mapping[str, float]], judgments: Mapping[str, Mapping[str, int]]) -> float:
    """Mean average precision of hard pictures, without easy and junk ones, over the queries that have any."""
    precisions = []
    for q, ranked in scores.items():
        order = [d for d in sorted(ranked, key=lambda d: -ranked[d]) if judgments[q].get(d, 1) == 1]
        ranks = [i for i, d in enumerate(order) if d in judgments[q]]
        if ranks:
            precisions.append(np.mean([(j + 1) / (i + 1) for j, i in enumerate(ranks)]))
    return float(np.mean(precisions))


# --- the control: local features -------------------------------------------------------------------------------------


@torch.inference_mode()
def local_features(cell: Cell, *, blocks: int, batch: Annotated[int, Size(rehearsal=8)]) -> dict[str, Array]:
    """Stage: unit vectors [images, rows, columns, 112] float16 of every cell of the map at a stride of 16.

    blocks: number of the network's blocks before the map.
    """
    order, maps = names(cell), []
    for start in range(0, len(order), batch):
        pixels = [cell.benchmark.images[n] for n in order[start : start + batch]]  # type: ignore[attr-defined]
        x = F.normalize(middle_map(cell.models["vision"], tensor(pixels), blocks), dim=1)
        maps.append(x.permute(0, 2, 3, 1).cpu().numpy().astype(np.float16))
        cell.progress(start + len(pixels), len(order))
    return {"local": np.concatenate(maps)}


def match_local(cell: Cell, *, m: int, pixels: float) -> Ranking:
    """Re-rank the first m by geometry: mutual nearest neighbours of two maps, then inliers of an affine map (RANSAC).

    Ties keep the order of the first stage. pixels: largest error of an inlier.
    """
    local = cell.inputs["local"]["local"]
    row = {n: i for i, n in enumerate(names(cell))}

    def score(q: str) -> dict[str, float]:
        docs = list(cell.candidates[q])
        query = local[row[cell.pictures[q]]].astype(np.float32)
        inliers = [matches(query, local[row[cell.document(x).image]].astype(np.float32), pixels) for x in docs[:m]]
        return with_tail(docs, np.array(inliers) - np.arange(len(inliers)) / (m + 1))

    return Ranking(cell.map(list(cell.queries), lambda queries: {q: score(q) for q in queries}, batch=4))


def matches(a: Array, b: Array, pixels: float) -> int:
    """Number of inliers between maps a, b [rows, columns, c] of unit vectors, whose cells are 16 pixels apart."""
    import cv2

    flat_a, flat_b = a.reshape(-1, a.shape[2]), b.reshape(-1, b.shape[2])
    s = flat_a @ flat_b.T
    forward, backward = s.argmax(1), s.argmax(0)
    mutual = np.flatnonzero(backward[forward] == np.arange(len(forward)))
    if len(mutual) < 4:
        return 0
    ends = [16.0 * np.stack([i % m.shape[1], i // m.shape[1]], 1) for i, m in ((mutual, a), (forward[mutual], b))]
    cv2.setRNGSeed(0)
    _, inlier = cv2.estimateAffine2D(ends[0], ends[1], method=cv2.RANSAC, ransacReprojThreshold=pixels)
    return 0 if inlier is None else int(inlier.sum())
