"""How nodes are cut into jobs: counted on nodes of its own. That no two jobs wait for each other is tested on the cards
(test_plan.py), whichever there are.
"""

from __future__ import annotations

from rankrepro.plan import Node
from rankrepro.plan.packing import packed, work

SCALE = {"threads": 1, "job_seconds": 10}


def node(name: str, seconds: float, *needs: Node, models: tuple[str, ...] = (), threads: int = 1) -> Node:
    spec = {
        "inputs": {n.name: {"digest": n.digest} for n in needs},
        "candidates": None,
        "kind": "cell",
        "models": {m: {"id": m} for m in models},
        "threads": threads,
        "benchmark": {"id": "b"},
    }
    return Node(name, name, spec, seconds, 1 + max((n.level for n in needs), default=0))


def batches(nodes: list[Node], shortest: float = 0.0, **scale: object) -> set[str]:
    return {"".join(n.name for n in b) for b in packed(nodes, SCALE | scale, shortest)}


def test_nodes_of_a_level_share_a_process_until_it_has_enough_to_do() -> None:
    llm = ("llm",)
    assert batches([node("a", 6, models=llm), node("b", 5, models=llm), node("c", 4, models=llm)]) == {"a", "bc"}
    assert batches([node("a", 2), node("b", 2), node("c", 1)]) == {"a", "bc"}  # a third without a model
    assert batches([node("a", 6), node("b", 3, models=("m",)), node("c", 1, threads=0)]) == {"a", "b", "c"}


def test_what_could_never_run_side_by_side_is_one_job() -> None:
    a = node("a", 6)
    assert batches([a, node("b", 6, a)]) == {"ab"}
    # two wait for the first; or the second waits for another, too
    b, c = node("b", 6, a), node("c", 6, a)
    assert batches([a, b, c]) == {"a", "b", "c"}
    other = node("o", 6)
    assert batches([a, other, node("d", 6, a, other)]) == {"a", "o", "d"}
    # what the second waits for is behind the first already
    assert batches([a, b, node("e", 6, a, b)]) == {"abe"}


def test_joined_jobs_stay_short_apart_from_timings_and_off_gpus() -> None:
    a = node("a", 15)
    assert batches([a, node("b", 6, a)]) == {"a", "b"}  # more than twice job_seconds
    a = node("a", 6)
    assert batches([a, node("t", 1, a, threads=0)]) == {"a", "t"}
    assert batches([a, node("b", 6, a, models=("llm",))]) == {"ab"}
    assert batches([a, node("b", 6, a, models=("llm",))], gpu=True) == {"a", "b"}


def test_short_jobs_join_others_until_at_most_one_is_left() -> None:
    """Four papers of an encoding, two arms on it, and a timing of these alone on the machine."""
    nodes = []
    for paper in "abcd":
        encoding = node(f"{paper}0", 3)
        arms = [node(f"{paper}{i}", 2, encoding) for i in (1, 2)]
        nodes += [encoding, *arms, node(f"{paper}3", 1, *arms, threads=0)]
    shortest, limit = 5.0, 2 * 10.0
    batches = packed(nodes, SCALE, shortest)
    assert sorted(n.name for batch in batches for n in batch) == sorted(n.name for n in nodes)
    assert sum(work(b) < shortest for b in batches if b[0].spec["threads"] == 1) <= 1
    assert sum(work(b) < shortest for b in packed(nodes, SCALE, 0.0) if b[0].spec["threads"] == 1) > 1
    assert all(work(b) <= limit for b in batches)
    assert all({n.spec["threads"] for n in b} == {b[0].spec["threads"]} for b in batches)


def test_in_a_job_a_node_comes_after_what_it_reads() -> None:
    a, x = node("a", 1), node("x", 1)
    b = node("b", 1, a)
    c, y = node("c", 9, b), node("y", 9, x)
    for shortest in (0.0, 3.0, 30.0):
        for batch in packed([a, x, b, c, y], SCALE, shortest):
            assert [n.level for n in batch] == sorted(n.level for n in batch)
