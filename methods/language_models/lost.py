"""LOST (arXiv 2508.02668): every linear map becomes a low-rank product and a few dense input channels.

    W [d_out, d_in] drawn as usual          W^T = U S V^T
    A = U_r S_r^1/2 [d_in, r]               B = S_r^1/2 V_r^T [r, d_out]
    residual = the singular triplets after the r-th; I = its m input channels of largest norm
    y = gamma SiLU(x A) B + (1 - gamma) x_I W_I^T

The decomposition happens once, before training. Embedding, norms and head stay dense. Each rival differs from LOST in
one ingredient and has as many parameters in the replaced layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.parts.training.batches import shuffled
from methods.parts.training.loop import Loss, Recipe, Task, searched, trained
from rankrepro.cell import MODEL, Cell, Facts, Likelihoods, Output, Size, trains


@dataclass(frozen=True)
class Shape:
    """Shape of the decoder: width, width of the feed-forward layers, number of layers and heads."""

    d: Annotated[int, Size(work=2, rehearsal=32)]
    ffn: Annotated[int, Size(rehearsal=64)]
    layers: Annotated[int, Size(work=1, rehearsal=2)]
    heads: Annotated[int, Size(rehearsal=2)]


@dataclass(frozen=True)
class Form:
    """What replaces a linear map.

    start   of the factors: `dense` (no factors: full rank), `svd`, `xavier`, `cola` (normal, so that A B has the
            variance 1 / (d_in + d_out)), `lora` (B = 0)
    silu    whether there is one between the factors
    sparse  `none`; dense input channels chosen by the `residual` norm or at `random`; or entries `scattered` at random
    gamma   weight of the low-rank part; 1 without dense channels
    rank    r = rank * d
    share   of the d_in input channels that are dense, at least `least` channels; or as many scattered entries
    draw    seed of the random channels
    """

    start: Literal["dense", "svd", "xavier", "cola", "lora"]
    silu: bool = False
    sparse: Literal["none", "residual", "random", "scattered"] = "none"
    gamma: float = 0.5
    rank: float = 0.25
    share: float = 0.05
    least: int = 8
    draw: int = 0

    def sizes(self, d_in: int, d_out: int, d: int) -> tuple[int, int]:
        """Rank and number of sparse channels of a layer. Without a sparse part, its parameters buy a higher rank."""
        r, m = round(self.rank * d), max(self.least, round(self.share * d_in))
        if self.sparse == "none":
            return round((r * (d_in + d_out) + m * d_out) / (d_in + d_out)), 0
        return r, m


# --- layers ----------------------------------------------------------------------------------------------------------


def decompose(w: Tensor, r: int) -> tuple[Tensor, Tensor, Tensor]:
    """A [d_in, r], B [r, d_out] with A B the best rank-r approximation of W^T, and the residual W^T - A B."""
    u, s, vt = torch.linalg.svd(w.T.double(), full_matrices=False)
    a, b = u[:, :r] * s[:r].sqrt(), s[:r, None].sqrt() * vt[:r]
    return a.float(), b.float(), (w.T.double() - a @ b).float()


def channels(residual: Tensor, m: int) -> Tensor:
    """The m input channels, sorted, whose rows of `residual` [d_in, d_out] have the largest norm."""
    return residual.norm(dim=1).topk(m).indices.sort().values


class Mixed(nn.Module):
    """y = gamma f(x A) B + (1 - gamma) x_I W_I^T, f SiLU or nothing; or x (A B + S) with scattered entries S."""

    index: Tensor  # of the channels, or of the entries

    def __init__(self, w: Tensor, form: Form, d: int, rng: torch.Generator) -> None:
        super().__init__()
        d_out, d_in = w.shape
        r, m = form.sizes(d_in, d_out, d)
        self.silu, self.gamma = form.silu, form.gamma if form.sparse in ("residual", "random") else 1.0
        a, b, residual = decompose(w, r)
        self.residual_norms = residual.norm(dim=1)
        if form.start != "svd":
            a, b = _factors(form.start, d_in, r, d_out, rng)
        self.a, self.b = nn.Parameter(a), nn.Parameter(b)
        self.scattered = form.sparse == "scattered"
        if self.scattered:
            self.register_buffer("index", torch.randperm(d_in * d_out, generator=rng)[: m * d_out].sort().values)
            self.sparse = nn.Parameter((torch.rand(m * d_out, generator=rng) * 2 - 1) / math.sqrt(d_in))
        elif m:
            drawn = torch.randperm(d_in, generator=torch.Generator().manual_seed(form.draw * 7919 + d_in + d_out))
            index = channels(residual, m) if form.sparse == "residual" else drawn[:m].sort().values
            self.register_buffer("index", index)
            self.sparse = nn.Parameter(w.T[index].clone())  # [m, d_out], of the original weights

    def forward(self, x: Tensor) -> Tensor:
        if self.scattered:
            whole = (self.a @ self.b).flatten().index_add(0, self.index, self.sparse)
            return x @ whole.view(len(self.a), -1)
        low = x @ self.a
        low = (F.silu(low) if self.silu else low) @ self.b
        if self.gamma == 1.0:
            return low
        return self.gamma * low + (1 - self.gamma) * (x.index_select(-1, self.index) @ self.sparse)


def _factors(start: str, d_in: int, r: int, d_out: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    a, b = torch.empty(d_in, r), torch.empty(r, d_out)
    if start == "xavier":
        return nn.init.xavier_normal_(a, generator=rng), nn.init.xavier_normal_(b, generator=rng)
    if start == "cola":
        std = r**-0.25 * (d_in + d_out) ** -0.25
        return a.normal_(0, std, generator=rng), b.normal_(0, std, generator=rng)
    return nn.init.kaiming_uniform_(a.T, a=math.sqrt(5), generator=rng).T.contiguous(), b.zero_()  # lora


# --- the model -------------------------------------------------------------------------------------------------------


class Llama(nn.Module):
    """A LLaMA decoder with tied embeddings. ids [batch, length] -> logits [batch, length, vocabulary]."""

    def __init__(self, vocabulary: int, shape: Shape, form: Form, seed: int) -> None:
        """All forms decompose the same dense weights of a seed."""
        super().__init__()
        dense, other = (torch.Generator().manual_seed(s) for s in (seed, seed + 10**6))

        def linear(d_in: int, d_out: int) -> nn.Module:
            w = torch.empty(d_out, d_in).normal_(0, 0.02, generator=dense)
            if form.start != "dense":
                return Mixed(w, form, shape.d, other)
            layer = nn.Linear(d_in, d_out, bias=False)
            layer.weight = nn.Parameter(w)
            return layer

        self.embedding = nn.Parameter(torch.empty(vocabulary, shape.d).normal_(0, 0.02, generator=dense))
        self.layers = nn.ModuleList(Block(shape, linear) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.d, eps=1e-6)

    def forward(self, ids: Tensor) -> Tensor:
        x = F.embedding(ids, self.embedding)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x) @ self.embedding.T

    def targets(self) -> Iterator[Tensor]:
        """The parameters of the layers that LOST replaces."""
        for block in self.layers:
            assert isinstance(block, Block)
            for layer in block.linear():
                yield from layer.parameters()


class Block(nn.Module):
    """Pre-norm attention with rotary positions, then the gated feed-forward layer."""

    def __init__(self, shape: Shape, linear: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        d, ffn = shape.d, shape.ffn
        self.heads = shape.heads
        self.q, self.k, self.v, self.o = (linear(d, d) for _ in range(4))
        self.gate, self.up, self.down = linear(d, ffn), linear(d, ffn), linear(ffn, d)
        self.before, self.between = nn.RMSNorm(d, eps=1e-6), nn.RMSNorm(d, eps=1e-6)

    def linear(self) -> list[nn.Module]:
        return [self.q, self.k, self.v, self.o, self.gate, self.up, self.down]

    def forward(self, x: Tensor) -> Tensor:
        n, length, d = x.shape
        h = self.before(x)
        q, k, v = (f(h).view(n, length, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True)
        x = x + self.o(mixed.transpose(1, 2).reshape(n, length, d))
        h = self.between(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


def rotate(x: Tensor) -> Tensor:
    """Rotary position embedding of x [..., length, width], base 10,000, halves paired as in LLaMA."""
    cos, sin = _angles(x.shape[-2], x.shape[-1], x.device)
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


@cache
def _angles(length: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    speed = 10_000.0 ** (-torch.arange(0, width, 2, device=device) / width)
    angle = torch.arange(length, device=device)[:, None] * speed
    return angle.cos(), angle.sin()


# --- training and testing --------------------------------------------------------------------------------------------


def batch_of(stream: np.ndarray, i: int, size: int, context: int, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets [size, context] of batch i: windows of the packed stream, each read once per epoch."""
    windows = (len(stream) - 1) // context
    starts = shuffled(i, size, windows, seed) * context
    rows = torch.from_numpy(np.stack([stream[s : s + context + 1] for s in starts]).astype(np.int64))
    return rows[:, :-1], rows[:, 1:]


def device() -> str:
    """Where models are trained and tested. Drawn on the processor, so that a seed gives the same weights anywhere."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def loss_of(model: Llama, inputs: Tensor, targets: Tensor) -> Tensor:
    """Mean negative log-likelihood per token, in nats; inputs may lie on another device than the model."""
    at = model.embedding.device
    return F.cross_entropy(model(inputs.to(at)).flatten(0, 1), targets.to(at).flatten())


@torch.no_grad()
def likelihoods(
    model: Llama, articles: Mapping[str, np.ndarray], end: int, context: int, size: int = 32
) -> dict[str, tuple[float, int]]:
    """Article -> (negative log-likelihood in nats, tokens).

    Every token is predicted once, in windows of `context` tokens; each starts with the token before its first one (the
    end token at the start of an article). size: windows per batch.
    """
    rows = []
    for name, tokens in articles.items():
        whole = np.append(end, tokens).astype(np.int64)
        rows += [(name, whole[s : s + context + 1]) for s in range(0, len(whole) - 1, context)]
    rows.sort(key=lambda row: len(row[1]))
    totals = {name: 0.0 for name in articles}
    for s in range(0, len(rows), size):
        batch = rows[s : s + size]
        longest = max(len(tokens) for _, tokens in batch)
        ids = torch.tensor(np.stack([np.pad(t, (0, longest - len(t)), constant_values=-100) for _, t in batch]))
        ids = ids.to(model.embedding.device)
        z, targets = model(ids[:, :-1].clamp_min(0)), ids[:, 1:]
        nll = F.cross_entropy(z.flatten(0, 1), targets.flatten(), reduction="none", ignore_index=-100)
        nll = nll.view(targets.shape).sum(1)
        for (name, _), value in zip(batch, nll.tolist(), strict=True):
            totals[name] += value
    return {name: (value, len(articles[name])) for name, value in totals.items()}


class Pretraining(Task):
    """A decoder drawn with the cell's seed, trained on the benchmark's articles."""

    def __init__(self, cell: Cell, shape: Shape, form: Form, size: int, context: int, validation: int) -> None:
        """size: windows per batch; validation: number of held-out articles."""
        benchmark: Any = cell.benchmark
        self.benchmark, self.seed, self.size, self.context = benchmark, cell.seed, size, context
        self.module: Llama = Llama(benchmark.vocabulary, shape, form, cell.seed).to(device())
        self.held = dict(list(benchmark.validation.items())[:validation])

    def step(self, i: int) -> Loss:
        inputs, targets = batch_of(self.benchmark.train, i, self.size, self.context, self.seed)
        return Loss(loss_of(self.module, inputs, targets), inputs.numel())

    def validate(self) -> dict[str, float]:
        per_article = likelihoods(self.module, self.held, self.benchmark.end, self.context).values()
        return {"loss": sum(nll for nll, _ in per_article) / sum(tokens for _, tokens in per_article)}


# --- stages and arms -------------------------------------------------------------------------------------------------


@trains
def search(
    cell: Cell,
    *,
    rates: Annotated[list[float], Size(rehearsal=2)],
    search_share: float,
    recipe: Recipe,
    shape: Shape,
    form: Form,
    batch: Annotated[int, Size(rehearsal=8)],
    context: Annotated[int, Size(rehearsal=32)],
    validation: Annotated[int, Size(rehearsal=5)],
) -> dict[str, np.ndarray]:
    """Stage: the validation loss that every learning rate has reached after `search_share` of the budget."""
    once = replace(recipe, every=10**9)  # the loss at the end decides, so that is when it is measured
    return searched(cell, lambda: Pretraining(cell, shape, form, batch, context, validation), once, rates, search_share)


@trains
def train(
    cell: Cell,
    *,
    recipe: Recipe,
    shape: Shape,
    form: Form,
    batch: Annotated[int, Size(rehearsal=8)],
    context: Annotated[int, Size(rehearsal=32)],
    validation: Annotated[int, Size(rehearsal=5)],
) -> dict[str, Output]:
    """One model from scratch: `perplexity` of the test articles, and `facts` about its size.

    batch: number of windows of `context` tokens; validation: number of articles. inputs: search.
    """
    benchmark: Any = cell.benchmark
    start = Llama(benchmark.vocabulary, shape, form, cell.seed)
    task, fit = trained(
        cell, lambda: Pretraining(cell, shape, form, batch, context, validation), recipe, cell.inputs["search"]
    )
    articles = {name: benchmark.test[name] for name in cell.queries}
    values = likelihoods(task.module, articles, benchmark.end, context)
    sizes = facts(start, task.module, fit.state_bytes, fit.rate)
    return {"perplexity": Likelihoods(values), "facts": Facts({MODEL: sizes})}


def facts(start: Llama, model: Llama, state_bytes: int, rate: float) -> dict[str, float]:
    """Sizes of a model: counted from shapes, and measured on the tensors that training held."""
    parameters = sum(p.numel() for p in model.parameters())
    mixed = [m for m in start.modules() if isinstance(m, Mixed)]
    with_channels = [m for m in mixed if m.gamma != 1.0]
    spreads = [float(m.residual_norms.std() / m.residual_norms.mean()) for m in mixed]
    shares = [float(torch.isin(channels_of(m), m.index).float().mean()) for m in with_channels]
    return {
        "target_parameters": sum(p.numel() for p in model.targets()),
        "parameters": parameters,
        "computed_bytes": 3 * 4 * parameters,  # a weight and two moments of Adam, in float32
        "measured_bytes": sum(p.numel() * p.element_size() for p in model.parameters()) + state_bytes,
        "learning_rate": rate,
        "residual_spread": float(np.mean(spreads)) if spreads else 0.0,
        "by_residual": float(np.mean(shares)) if shares else 0.0,
    }


def channels_of(layer: Mixed) -> Tensor:
    """The channels that the residual norm would choose for a layer, whatever its channels are."""
    return layer.residual_norms.topk(len(layer.index)).indices


def unigram(cell: Cell) -> Likelihoods:
    """The floor, without a model: every token by its frequency in training, with one added to each count."""
    benchmark: Any = cell.benchmark
    counts = np.bincount(benchmark.train, minlength=benchmark.vocabulary) + 1.0
    log_p = np.log(counts / counts.sum())
    tokens = {name: benchmark.test[name] for name in cell.queries}
    return Likelihoods({name: (float(-log_p[t].sum()), len(t)) for name, t in tokens.items()})


# --- speed -----------------------------------------------------------------------------------------------------------


@trains
def speed(
    cell: Cell,
    *,
    shape: Shape,
    form: Form,
    batch: Annotated[int, Size(rehearsal=8)],
    context: Annotated[int, Size(rehearsal=32)],
) -> Facts:
    """One training step (forward, backward, AdamW) per unit, for timings, and the tokens that it read.

    Model and optimiser are made once per process.
    """
    benchmark: Any = cell.benchmark
    model, optimiser = _ready(benchmark.vocabulary, shape, form)

    def one(units: list[str]) -> dict[str, dict[str, float]]:
        for _ in units:
            inputs, targets = batch_of(benchmark.train, 0, batch, context, cell.seed)
            optimiser.zero_grad(set_to_none=True)
            loss_of(model, inputs, targets).backward()
            optimiser.step()
        for unit in units:
            cell.meter.add(unit, input_tokens=inputs.numel(), forward_passes=1)
        return {unit: {"tokens": float(inputs.numel())} for unit in units}

    return Facts(cell.map(list(cell.queries), one))


@cache
def _ready(vocabulary: int, shape: Shape, form: Form) -> tuple[Llama, torch.optim.Optimizer]:
    model = Llama(vocabulary, shape, form, 0).to(device())
    return model, torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
