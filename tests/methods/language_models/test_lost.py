"""LOST: the decomposition, the layers it replaces, and the decoder against that of transformers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from cells import make_cell

from methods.language_models import lost
from methods.language_models.lost import Form, Llama, Mixed, Shape
from methods.parts.training.loop import Recipe
from rankrepro.benchmarks.vital_lm import LmBenchmark
from rankrepro.cards import load_cards
from rankrepro.cell import MODEL, Cell

SHAPE = Shape(d=32, ffn=88, layers=2, heads=4)
LOST = Form("svd", True, "residual")


def dense(d_out: int = 40, d_in: int = 24, seed: int = 0) -> torch.Tensor:
    return torch.empty(d_out, d_in).normal_(0, 0.02, generator=torch.Generator().manual_seed(seed))


def mixed(form: Form, d_out: int = 40, d_in: int = 24, d: int = 32) -> Mixed:
    return Mixed(dense(d_out, d_in), form, d, torch.Generator().manual_seed(1))


# --- the decomposition -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("d_out", "d_in"), [(40, 24), (24, 40), (24, 24)])
def test_factors_are_the_best_approximation_and_have_the_shapes_of_the_paper(d_out, d_in):
    w = dense(d_out, d_in)
    a, b, residual = lost.decompose(w, 7)
    assert a.shape == (d_in, 7) and b.shape == (7, d_out) and residual.shape == (d_in, d_out)
    s = torch.linalg.svdvals(w.double())
    assert residual.norm().item() == pytest.approx(s[7:].norm().item(), rel=1e-5)  # Eckart and Young
    assert torch.allclose(a @ b + residual, w.T, atol=1e-6)
    assert torch.allclose(a.norm(dim=0).square(), s[:7].float(), rtol=1e-4)  # each factor has the root of S


def test_channels_are_inputs_and_those_the_factors_miss_most():
    w = dense(40, 24)
    w[:, 5] *= 3
    w[:, 9] *= 2
    _, _, residual = lost.decompose(w, 1)
    chosen = lost.channels(residual, 4).tolist()
    norms = residual.norm(dim=1)
    assert chosen == sorted(chosen) and 9 in chosen
    assert norms[chosen].min() >= max(n for i, n in enumerate(norms.tolist()) if i not in chosen)


def test_sparse_weights_start_from_the_original_columns():
    layer = mixed(LOST)
    w = dense()
    assert layer.sparse.shape == (8, 40)
    assert torch.equal(layer.sparse, w[:, layer.index].T)


def test_the_forward_pass_is_the_formula():
    layer, x = mixed(LOST), torch.randn(3, 5, 24)
    low = torch.nn.functional.silu(x @ layer.a) @ layer.b
    assert torch.allclose(layer(x), 0.5 * low + 0.5 * (x[..., layer.index] @ layer.sparse), atol=1e-6)


def test_at_full_rank_the_low_rank_part_is_the_dense_layer():
    w = dense(24, 24)
    layer = Mixed(w, Form("svd", rank=1.0, least=0, share=0.0), 24, torch.Generator())
    x = torch.randn(2, 24)
    assert layer.a.shape == (24, 24) and torch.allclose(layer(x), x @ w.T, atol=1e-5)


def test_scattered_entries_are_fixed_places_and_sltrain_starts_as_the_sparse_matrix():
    layer = mixed(Form("lora", sparse="scattered"))
    whole = torch.zeros(24 * 40).index_put((layer.index,), layer.sparse).view(24, 40)
    x = torch.randn(3, 24)
    assert len(set(layer.index.tolist())) == 8 * 40 and torch.allclose(layer(x), x @ whole, atol=1e-6)
    assert layer.b.abs().sum() == 0 and layer.a.abs().sum() > 0


def test_cola_starts_with_the_variance_of_its_rule():
    layer = Mixed(dense(400, 300), Form("cola", True), 128, torch.Generator().manual_seed(0))
    assert (layer.a @ layer.b).std().item() == pytest.approx((300 + 400) ** -0.5, rel=0.05)


def test_random_channels_differ_by_draw_and_not_by_seed():
    one, other = mixed(Form("svd", True, "random")), mixed(Form("svd", True, "random", draw=1))
    again = Mixed(dense(seed=9), Form("svd", True, "random"), 32, torch.Generator().manual_seed(8))
    assert torch.equal(one.index, again.index) and not torch.equal(one.index, other.index)


# --- equal terms -----------------------------------------------------------------------------------------------------


def forms() -> dict[str, Form]:
    card = load_cards()["lost"]
    known = Form.__dataclass_fields__
    arms = {a: s for a, s in card.arms.items() if s["fn"] == "lost.train"}
    return {a: Form(**{k: v for k, v in s["params"].items() if k in known}) for a, s in arms.items()}


def test_every_factorised_arm_of_the_card_has_as_many_parameters_as_lost():
    sizes = load_cards()["lost"].at("desk")["params"]["all"]
    shape = Shape(**{name: sizes[name] for name in Shape.__dataclass_fields__})
    target = {a: sum(p.numel() for p in Llama(8, shape, f, 0).targets()) for a, f in forms().items()}
    assert target.pop("full") == 4 * (4 * 128**2 + 3 * 128 * 344)
    assert target["lost"] <= 0.6 * 790_528
    for arm, n in target.items():
        assert n == pytest.approx(target["lost"], rel=0.01), arm


def test_memory_is_what_is_counted_and_less_than_full_rank():
    sizes = {}
    for name, form in {"full": Form("dense"), "lost": LOST}.items():
        out = train(cell(), form)
        sizes[name] = out["facts"].values[MODEL]
        assert sizes[name]["measured_bytes"] == sizes[name]["computed_bytes"]
    assert sizes["lost"]["measured_bytes"] < sizes["full"]["measured_bytes"]
    assert sizes["lost"]["by_residual"] == 1.0 and 0 < sizes["lost"]["residual_spread"] < 0.5


def test_all_forms_decompose_the_same_draw():
    full, other = Llama(50, SHAPE, Form("dense"), 3), Llama(50, SHAPE, LOST, 3)
    assert torch.equal(full.embedding, other.embedding)
    w = full.layers[1].down.weight
    a, b, _ = lost.decompose(w, other.layers[1].down.a.shape[1])
    assert torch.equal(other.layers[1].down.a, a) and torch.equal(other.layers[1].down.b, b)


def test_batches_are_windows_of_the_stream_each_once_an_epoch():
    stream = np.arange(8 * 4 * 5 + 1, dtype=np.int32)
    read = [lost.batch_of(stream, i, 4, 8, 0) for i in range(5)]
    starts = sorted(int(row[0]) for inputs, _ in read for row in inputs)
    assert starts == list(range(0, 160, 8))
    assert all(torch.equal(inputs + 1, targets) for inputs, targets in read)


# --- the decoder -----------------------------------------------------------------------------------------------------


def test_at_full_rank_it_is_the_llama_of_transformers():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=97, hidden_size=32, intermediate_size=88, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, rms_norm_eps=1e-6, rope_theta=10_000.0, tie_word_embeddings=True,
        max_position_embeddings=64,
    )  # fmt: skip
    theirs, ours = LlamaForCausalLM(config).eval(), Llama(97, SHAPE, Form("dense"), 0)
    names = {"self_attn.q_proj": "q", "self_attn.k_proj": "k", "self_attn.v_proj": "v", "self_attn.o_proj": "o",
             "mlp.gate_proj": "gate", "mlp.up_proj": "up", "mlp.down_proj": "down", "input_layernorm": "before",
             "post_attention_layernorm": "between"}  # fmt: skip
    with torch.no_grad():
        theirs.model.embed_tokens.weight.copy_(ours.embedding)
        for layer, block in zip(theirs.model.layers, ours.layers, strict=True):
            for their, our in names.items():
                weight = block.get_submodule(our).weight
                if our in ("before", "between"):
                    weight.uniform_(0.5, 1.5)
                else:
                    weight.mul_(5)  # so that attention is far from uniform
                layer.get_submodule(their).weight.copy_(weight)
        ids = torch.randint(0, 97, (3, 20))
        assert torch.allclose(theirs(ids).logits, ours(ids), atol=1e-4)
        loss = theirs(ids, labels=ids).loss.item()
        assert lost.loss_of(ours, ids[:, :-1], ids[:, 1:]).item() == pytest.approx(loss, abs=1e-4)


def test_every_token_is_predicted_once_from_what_stands_before_it():
    model = Llama(50, SHAPE, Form("dense"), 0)
    with torch.no_grad():
        model.embedding.mul_(20)
    articles = {"long": np.arange(1, 24), "short": np.array([7, 3]), "exact": np.arange(10, 18)}
    values = lost.likelihoods(model, articles, 0, context=8, size=3)
    assert {a: n for a, (_, n) in values.items()} == {"long": 23, "short": 2, "exact": 8}
    for name, tokens in articles.items():
        whole, total = [0, *tokens.tolist()], 0.0
        for i in range(1, len(whole)):
            start = (i - 1) // 8 * 8
            with torch.no_grad():
                z = model(torch.tensor([whole[start:i]]))[0, -1]
            total -= z.log_softmax(-1)[whole[i]].item()
        assert values[name][0] == pytest.approx(total, rel=1e-4)


# --- cells -----------------------------------------------------------------------------------------------------------


def tiny() -> LmBenchmark:
    """A language whose next token is the last one plus one, with two held-out articles."""
    walk = np.arange(600) % 11 + 1
    held = {"a": walk[3:20].astype(np.int32), "b": walk[5:12].astype(np.int32)}
    return LmBenchmark("tiny/lm", 12, 0, walk.astype(np.int32), held, held)


READING: dict[str, Any] = {"batch": 4, "context": 16, "validation": 2}
RECIPE = Recipe(tokens=64 * 40, every=20)


def cell() -> Cell:
    return make_cell(benchmark=tiny(), inputs={"search": {"best": np.array([0.01])}})


def train(c: Cell, form: Form) -> dict[str, Any]:
    return lost.train(c, recipe=RECIPE, shape=SHAPE, form=form, **READING)


@pytest.mark.parametrize("form", [Form("dense"), LOST, Form("lora", sparse="scattered")])
def test_it_learns_and_the_search_prefers_the_rate_that_does(form):
    out = train(cell(), form)["perplexity"].values
    floor = lost.unigram(cell()).values
    assert out["a"][1] == floor["a"][1] == 17
    assert out["a"][0] < 0.7 * floor["a"][0]
    arguments: dict[str, Any] = {"recipe": RECIPE, "shape": SHAPE, "form": form, **READING}
    result = lost.search(cell(), rates=[1e-5, 1e-2], search_share=0.5, **arguments)
    assert result["best"] == [0.01] and result["values"][1] < result["values"][0] < math.log(12) + 0.5


def test_unigram_is_the_frequency():
    floor = lost.unigram(cell()).values["b"]
    counts = np.bincount(tiny().train, minlength=12) + 1
    assert floor[0] == pytest.approx(-sum(math.log(counts[t] / counts.sum()) for t in tiny().test["b"]))


def test_a_search_looks_at_the_end_alone() -> None:
    """However often training validates, all rates are compared after the same tokens."""
    c = cell()
    arguments: dict[str, Any] = {"recipe": RECIPE, "shape": SHAPE, "form": LOST, **READING}
    result = lost.search(c, rates=[1e-2], search_share=1.0, **arguments)
    assert dict(map(tuple, c.history.record()["rate_0.01_loss"])).keys() == {0, 40}
    assert c.history.record()["rate_0.01_loss"][-1][1] == result["values"][0]


def test_speed_counts_its_tokens():
    c = cell()
    facts = lost.speed(c, shape=SHAPE, form=LOST, batch=4, context=16)
    assert facts.values == {"a": {"tokens": 64.0}, "b": {"tokens": 64.0}}
    assert c.meter.record()["units"]["a"]["input_tokens"] == 64
