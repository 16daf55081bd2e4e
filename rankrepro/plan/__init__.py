"""Cards x scale -> stages and cells, packed into jobs. Static: nothing is built, loaded or run to make a plan."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rankrepro import (
    artifacts,
    benchmarks,
    claims,
    measure_names,
    models,
    parameters,
    rehearsal,
    signatures,
    sizes,
)
from rankrepro.cards import (
    DEFAULT_SPLIT,
    Card,
    qualify,
    row_index,
    seconds_per_unit,
    stage_inputs,
    stage_of,
    where_of,
)
from rankrepro.code import METHODS, Code, Definition
from rankrepro.errors import ConfigError, RankReproError, UnknownName
from rankrepro.plan import leaks, packing, placebos, traps
from rankrepro.plan.nodes import Job, Node, Plan
from rankrepro.plan.nodes import digest as digest_of_node
from rankrepro.plan.scales import load_scale, scales
from rankrepro.store import Store, digest_of

__all__ = ["HARNESS", "Job", "Node", "Plan", "load_scale", "make_plan", "scales", "select", "stale", "write_jobs"]

HARNESS = 1  # bump by hand when the harness changes what a cell computes
TRAINING = Definition("methods.parts.training.loop", "fit")  # the one loop, which alone uses several GPUs


def select(cards: Mapping[str, Card], papers: str | list[str]) -> list[str]:
    """The keys of `papers` (`all`, a comma-separated string or a list) that have a method."""
    if papers == "all":
        return [k for k, c in cards.items() if c.implemented]
    keys = papers.split(",") if isinstance(papers, str) else list(papers)
    for key in keys:
        if key not in cards:
            raise UnknownName("paper", key, cards)
        if not cards[key].implemented:
            raise ConfigError(f"{where_of(cards[key])}: '{key}' has no method yet; `rankrepro papers` shows which have")
    return keys


# --- the plan --------------------------------------------------------------------------------------------------------


class _Planner:
    def __init__(
        self,
        cards: Mapping[str, Card],
        scale: str,
        papers: str | list[str],
        only: Sequence[str],
        code: Code,
        shortest: float,
    ) -> None:
        self.cards, self.code, self.shortest = cards, code, shortest
        self.scale = load_scale(scale)
        self.name = self.scale.get("like", scale)  # what cards say of this scale holds
        self.caps = self.scale.get("caps", {})
        self.instead = self.scale.get("instead", {})
        self.marks = {"stand_ins": rehearsal.version()} if self.scale.get("stand_ins") else {}
        self.rows = row_index(cards)
        self.catalogue = artifacts.load_catalogue()
        self.only = set(self._instead(only))
        self.plan = Plan(self.scale, self._selected(papers))
        self.ladder = sizes.ladder(self.scale)
        self._size = ""  # of the language model of what is being planned; "": the largest
        # re-rankers ask for their first stage again and again
        self._cells: dict[tuple[str, str, str, int, str], Node] = {}
        self._needed: list[str] = []  # arms and stages whose inputs are being planned

    def make(self) -> Plan:
        for key in self.plan.papers:
            parameters.check(self.cards[key], self.code)
            claims.check(self.cards[key], self.rows, _tags, measure_names.check)
            traps.shared_seeds(self.cards[key], self.cards, self.code)
            self._paper(self.cards[key])
            leaks.refuse(self.cards[key], claims.of(self.cards[key]), self.plan, self.code)
            placebos.refuse(self.cards[key], claims.of(self.cards[key]), self.plan)
        self.plan.jobs = {job.id: job for job in self._pack()}
        return self.plan

    def _selected(self, papers: str | list[str]) -> list[str]:
        """The requested papers that have one of the requested benchmarks."""
        keys = select(self.cards, papers)
        known = {b for key in keys for b in self._instead(self.cards[key].benchmarks_at(self.name))}
        for benchmark in self.only - known:
            raise UnknownName("benchmark", benchmark, known, where=f"benchmarks of {', '.join(keys)} at {self.name}")
        return [key for key in keys if not self.only or self._benchmarks(self.cards[key])]

    def _benchmarks(self, card: Card) -> list[str]:
        return [b for b in self._instead(card.benchmarks_at(self.name)) if not self.only or b in self.only]

    def _paper(self, card: Card) -> None:
        plan = self.plan
        plan.benchmarks[card.key] = self._benchmarks(card)
        plan.sizes[card.key] = sizes.smaller(card, self.scale)
        used = self._planned(card)
        for size in plan.sizes[card.key]:
            self._size = size
            used += self._planned(card)
        self._size = ""
        plan.paper_nodes[card.key] = self._with_inputs(used)

    def _planned(self, card: Card) -> list[str]:
        """Digests of the rows and timings of a card; at a smaller size, of those in which the model has a part."""
        plan, used = self.plan, []
        for benchmark in plan.benchmarks[card.key]:
            for row in self._rows_of(card):
                owner, arm = self.rows[row]
                if not self._runs(self.cards[owner], arm, benchmark):
                    continue
                cells = []
                for seed in self._seeds(self.cards[owner], arm):
                    node = self._cell(self.cards[owner], arm, benchmark, seed)
                    cells.append((seed, node.digest, self._variant(row)))
                if self._size and cells == plan.rows[row][benchmark]:
                    continue
                plan.rows.setdefault(sizes.at(row, self._size), {})[benchmark] = cells
                used += [digest for _, digest, _ in cells]
        timed = plan.timings.setdefault(card.key, {})
        for timing in card.data.get("timings", []):
            clocked = self._timing(card, timing)
            if clocked and clocked.digest not in timed.values():
                timed[sizes.at(timing["name"], self._size)] = clocked.digest
                used.append(clocked.digest)
        return used

    def _with_inputs(self, digests: list[str]) -> list[str]:
        """The digests and those of everything they are computed from."""
        reached: set[str] = set()
        todo = list(digests)
        while todo:
            digest = todo.pop()
            if digest not in reached:
                reached.add(digest)
                todo += self.plan.nodes[digest].needs()
        return sorted(reached)

    def _rows_of(self, card: Card) -> list[str]:
        """The card's own rows, and the rows of other cards that its tables, claims and timings name."""
        of_card = [f"{card.key}.{row}" for arm in card.arms for row in card.rows(arm)]
        claimed = [term.arm for claim in claims.of(card) for term in claim.terms]
        shown = [qualify(card, arm) for table in card.data.get("tables", []) for arm in table["arms"]]
        timed = [qualify(card, timing[side]) for timing in card.data.get("timings", []) for side in ("a", "b")]
        return list(dict.fromkeys([*of_card, *claimed, *shown, *timed]))

    def _runs(self, card: Card, arm: str, benchmark: str) -> bool:
        settings = card.at(self.name)
        if "arms" in settings and arm not in settings["arms"]:
            return False
        return benchmark in self._instead(settings.get("benchmarks", {}).get(arm, [benchmark]))

    def _seeds(self, card: Card, arm: str) -> list[int]:
        return card.seeds(arm, self.name)[: self.caps.get("seeds")]

    def _instead(self, ids: Iterable[str]) -> list[str]:
        """The benchmarks; in a rehearsal, small ones instead of large ones."""
        return [self.instead.get(benchmark, benchmark) for benchmark in ids]

    def _variant(self, row: str) -> str:
        """The key of a row in what its arm's function returns."""
        owner, arm = self.rows[row]
        return self.cards[owner].rows(arm)[row.split(".")[1]]

    def _sample(self, card: Card, arm: str, benchmark: str) -> int | None:
        groups = card.at(self.name).get("sample", {})
        n = groups.get(card.arms[arm].get("sample", "all"), self.scale["sample"])
        n, cap = (x.get(benchmark, x["default"]) if isinstance(x, dict) else x for x in (n, self.caps.get("sample")))
        return n if cap is None else min(n or cap, cap)

    def _models(self, card: Card, spec: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        rung = {sizes.ROLE: self.ladder[self._size]} if self._size else {}
        roles = {**self.scale["models"], **rung, **card.data.get("models", {}).get(self.name, {})}
        of_node = {}
        for name, role in spec.get("models", {}).items():
            if role not in roles:
                raise UnknownName("model role", role, roles, where=where_of(card))
            if roles[role] not in self.catalogue:
                raise UnknownName("artifact", roles[role], self.catalogue, where=f"scale {self.name}: models.{role}")
            artifact = self.catalogue[roles[role]]
            mixed = artifact.model is not None and artifact.model.kind in self.scale.get("mixed", [])
            of_node[name] = {"id": artifact.id, "digest": models.digest(artifact)} | ({"mixed": True} if mixed else {})
        return of_node

    def _base(self, card: Card, name: str, spec: Mapping[str, Any], kind: str, seed: int) -> dict[str, Any]:
        params = self._params(card, name, spec)
        self._check_taken(card, name, spec)
        return {
            "harness": HARNESS,
            "kind": kind,
            "fn": spec["fn"],  # where to find it; its name is part of its code
            "code": self.code.digest(spec["fn"]),
            "params": params,
            "models": self._models(card, spec),
            "seed": seed,
            "threads": spec.get("threads", self.scale["threads"]),
            "dtype": self.scale["dtype"],
            **self._gpus(card, name, spec),
            **self.marks,
        }

    def _gpus(self, card: Card, name: str, spec: Mapping[str, Any]) -> dict[str, int]:
        """How many GPUs a node is computed on, where it is more than one."""
        asked = card.at(self.name).get("gpus", {})
        count = asked.get(name, asked.get(spec["fn"], 1)) if self.scale.get("gpu") else 1
        if count > 1 and TRAINING not in self.code.reach(spec["fn"]):
            raise ConfigError(
                f"{where_of(card)}: scales.{self.name}.gpus: {spec['fn']} trains nothing by `training.loop.fit`, which "
                f"alone uses several GPUs; take it out"
            )
        return {"gpus": count} if count > 1 else {}

    def _check_taken(self, card: Card, name: str, spec: Mapping[str, Any]) -> None:
        """The models and inputs that the function's code takes from its cell are given by the card."""
        signature = signatures.of(spec["fn"], self.code)
        given = {"models": set(spec.get("models", {})), "inputs": set(stage_inputs(spec))}
        for kind, needed in (("models", signature.models), ("inputs", signature.inputs)):
            if missing := sorted(needed - given[kind]):
                where = f"{where_of(card)}: {'arms' if name in card.arms else 'stages'}.{name}"
                example = "{" + f"{missing[0]}: {'<role>' if kind == 'models' else '<stage or arm>'}" + "}"
                raise ConfigError(
                    f"{where}: {spec['fn']} takes the {kind[:-1]} '{missing[0]}'; add `{kind}: {example}` to it"
                )

    def _params(self, card: Card, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        params = parameters.of_node(card, name, spec, self.name, self.code)
        return parameters.capped(params, signatures.of(spec["fn"], self.code)) if self.marks else params

    def _seconds(self, card: Card, name: str, spec: Mapping[str, Any], default: float) -> float:
        """Predicted seconds a unit."""
        default = seconds_per_unit(self.cards, card, name, spec["fn"], self.name, default)
        seconds = card.seconds.get(self.name, {}).get(sizes.at(name, self._size), default)
        return min(seconds, self.caps.get("seconds", seconds))

    def _cell(self, card: Card, arm: str, benchmark: str, seed: int) -> Node:
        key = (card.key, arm, benchmark, seed, self._size)
        if key not in self._cells:
            with self._no_circle(f"{card.key}.{arm}", card):
                self._cells[key] = self._new_cell(card, arm, benchmark, seed)
        return self._cells[key]

    @contextmanager
    def _no_circle(self, name: str, card: Card) -> Iterator[None]:
        """ConfigError if an arm or stage needs, by whatever way, its own result."""
        if name in self._needed:
            circle = " -> ".join([*self._needed[self._needed.index(name) :], name])
            raise ConfigError(
                f"{where_of(card)}: {circle}: each reads the next; change `inputs` or `candidates` of one"
            )
        self._needed.append(name)
        try:
            yield
        finally:
            self._needed.pop()

    def _new_cell(self, card: Card, arm: str, benchmark: str, seed: int) -> Node:
        spec = card.arms[arm]
        sample = self._sample(card, arm, benchmark)
        inputs = self._inputs(card, f"arms.{arm}", spec, benchmark, seed)
        queries = {
            "split": card.split(benchmark),
            "sample": sample,
            "mode": spec.get("queries", "own"),
        }
        candidates = None
        if "candidates" in spec:
            c = spec["candidates"]
            source = self._row(card, c["from"], benchmark)
            answered = self.plan.nodes[source["digest"]].spec["queries"]
            traps.unanswered(card, arm, benchmark, queries, qualify(card, c["from"]), answered)
            candidates = {**source, "depth": c["depth"], "order": c.get("order", "first_stage")}
        base = self._base(card, arm, spec, "cell", seed)
        full = base | {
            "benchmark": {"id": benchmark, "digest": benchmarks.digest(benchmark, bool(self.marks))},
            "queries": queries,
            "candidates": candidates,
            "inputs": inputs,
        }
        units = min(sample or 10**9, benchmarks.get(benchmark).units_of(queries["split"]))
        return self._node(f"{card.key}.{arm}", full, self._seconds(card, arm, spec, 0.01) * units)

    def _row(self, card: Card, name: str, benchmark: str) -> dict[str, str]:
        row = qualify(card, name)
        owner, arm = self.rows[row]
        node = self._cell(self.cards[owner], arm, benchmark, self._seeds(self.cards[owner], arm)[0])
        return {"digest": node.digest, "variant": self._variant(row)}

    def _inputs(
        self, card: Card, key: str, spec: Mapping[str, Any], benchmark: str, seed: int
    ) -> dict[str, dict[str, str]]:
        """What a node reads by name, `corpus` and `benchmark` aside."""
        sources = {n: s for n, s in stage_inputs(spec).items() if s not in ("corpus", "benchmark")}
        return {n: self._input(card, f"{key}.inputs.{n}", s, benchmark, seed) for n, s in sources.items()}

    def _input(self, card: Card, key: str, source: str, benchmark: str, seed: int) -> dict[str, str]:
        """A result and the variant of it, or "" for everything that a stage returned."""
        if named_stage := stage_of(self.cards, card, source):
            owner, stage, variant = named_stage
            traps.unknown_variant(card, key, source, owner.stages[stage]["fn"], variant, self.code)
            return {"digest": self._stage(owner, stage, benchmark, seed).digest, "variant": variant}
        return self._row(card, source, benchmark)

    def _stage(self, card: Card, name: str, benchmark: str, seed: int) -> Node:
        with self._no_circle(f"{card.key}.{name}", card):
            return self._new_stage(card, name, benchmark, seed)

    def _new_stage(self, card: Card, name: str, benchmark: str, seed: int) -> Node:
        """A stage for an arm on `benchmark`, unless the card gives the stage a benchmark of its own (training data)."""
        spec = card.stages[name]
        if "benchmark" in spec:
            if self.name not in spec["benchmark"]:
                raise ConfigError(f"{where_of(card)}: stages.{name}.benchmark has none for scale {self.name}")
            (benchmark,) = self._instead([spec["benchmark"][self.name]])
        read = set(stage_inputs(spec).values()) & {"corpus", "benchmark"}
        corpus_only = read == {"corpus"}
        inputs = self._inputs(card, f"stages.{name}", spec, benchmark, seed)
        digest = (benchmarks.corpus_digest if corpus_only else benchmarks.digest)(benchmark, bool(self.marks))
        # one stage for benchmarks that share a corpus, named after the first of them
        known = corpus_only and next(
            (n for n in self.plan.nodes.values() if n.spec["benchmark"]["digest"] == digest), None
        )
        seeds = spec.get("seeds", [0])
        full = self._base(card, name, spec, "stage", seed if len(seeds) > 1 else seeds[0]) | {
            "benchmark": {"id": known.benchmark if known else benchmark, "digest": digest},
            "queries": {"split": DEFAULT_SPLIT, "sample": None, "mode": "own"},
            "candidates": None,
            "inputs": inputs,
        }
        entry = benchmarks.get(benchmark)
        units = entry.documents if corpus_only else entry.units + entry.documents if "benchmark" in read else 1
        seconds = self._seconds(card, name, spec, 1.0 if units == 1 else 0.01)  # of the whole stage, or of a text
        return self._node(f"{card.key}.{name}", full, seconds * units)

    def _timing(self, card: Card, timing: Mapping[str, Any]) -> Node | None:
        ids = self.plan.benchmarks[card.key]
        (benchmark,) = self._instead([timing.get("benchmark", ids[0] if ids else "")])
        if benchmark not in ids:
            return None
        n = timing["n"].get(self.name) if isinstance(timing["n"], dict) else timing["n"]
        if not n:
            return None
        sides, seconds = {}, 0.0
        for side in ("a", "b"):
            owner, arm = self.rows[qualify(card, timing[side])]
            node = self._cell(self.cards[owner], arm, benchmark, 0)
            sides[side] = node.spec
            seconds += 2 * n * self._seconds(self.cards[owner], arm, self.cards[owner].arms[arm], 0.01)
        full = {k: sides["a"][k] for k in ("harness", "benchmark", "seed", "dtype")}
        full |= {"kind": "timing", "n": n, "candidates": None, "inputs": {}, "threads": 0, **sides, **self.marks}
        full |= {"models": sides["a"]["models"] | sides["b"]["models"]}
        return self._node(f"{card.key}.{timing['name']}", full, seconds)

    def _node(self, name: str, spec: dict[str, Any], seconds: float) -> Node:
        digest, name = digest_of_node(spec), sizes.at(name, self._size)  # the name that was there first stays
        if digest not in self.plan.nodes:
            probe = Node(name, digest, spec, seconds, 0)
            level = 1 + max((self.plan.nodes[d].level for d in probe.needs()), default=0)
            self.plan.nodes[digest] = Node(name, digest, spec, seconds, level)
        return self.plan.nodes[digest]

    # --- packing ---

    def _pack(self) -> Iterator[Job]:
        batches = packing.packed(self.plan.nodes.values(), self.scale, self.shortest)
        packed = {digest_of(sorted(n.digest for n in b))[:16]: b for b in batches}
        home = {n.digest: job for job, batch in packed.items() for n in batch}
        for job, batch in packed.items():
            yield Job(
                job,
                batch,
                sorted({home[d] for n in batch for d in n.needs()} - {job}),
                sorted({n.benchmark for n in batch}),
                sorted({m["id"] for n in batch for m in n.spec["models"].values()}),
                batch[0].spec["threads"],
                packing.work(batch),
            )


def _tags(benchmark: str) -> list[str]:
    """What the units of a benchmark may carry, as its card says: tags, and the splits it has."""
    entry = benchmarks.get(benchmark)
    return [*entry.tags, *(split for split in ("train", "validation", "test") if entry.counts.get(split, 1))]


def make_plan(
    cards: Mapping[str, Card],
    scale: str,
    papers: str | list[str] = "all",
    only: str | Sequence[str] = (),
    code: Code = METHODS,
    shortest: float = 0.0,
) -> Plan:
    """The plan of `papers` at `scale`. Raises ConfigError or UnknownName naming file and key.

    `only`: benchmark ids, as a list or separated by commas; none or `all`: all of a card's.
    `shortest`: seconds of predicted work a job should have at least; more than 0 on clusters, where a job costs a wait.
    """
    ids = only.split(",") if isinstance(only, str) else only
    return _Planner(cards, scale, papers, [] if list(ids) == ["all"] else ids, code, shortest).make()


def stale(cards: Mapping[str, Card], scale: str, published: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Published reports that the code as it stands would not make: key -> why, in words.

    published: key -> the digests that a report was made from.
    """
    try:
        now = dict(make_plan(cards, scale, list(published)).paper_nodes)
    except RankReproError as error:
        if len(published) == 1:
            return dict.fromkeys(published, str(error))
        # one of them can no longer be planned: try each on its own
        return {k: why for key, then in published.items() for k, why in stale(cards, scale, {key: then}).items()}
    reasons = {}
    for key, then in published.items():
        new, gone = len(set(now[key]) - set(then)), len(set(then) - set(now[key]))
        if new:
            reasons[key] = f"{new} of {len(now[key])} results would be computed again"
        elif gone:
            reasons[key] = f"{gone} of {len(set(then))} results are no longer part of it"
    return reasons


def write_jobs(plan: Plan, folder: Path) -> None:
    """`folder/jobs/<id>.json` for each job; a finished job whose results left the store is unmarked and runs again."""
    store = Store(folder / "store")
    jobs = folder / "jobs"
    jobs.mkdir(parents=True, exist_ok=True)
    for job in plan.jobs.values():
        file, marker = jobs / f"{job.id}.json", jobs / f"{job.id}.done"
        text = json.dumps(
            {
                "id": job.id,
                "title": job.title,
                "threads": job.threads,
                "seconds": job.seconds,
                "nodes": [{"name": n.name, "digest": n.digest, "spec": n.spec} for n in job.nodes],
            },
            indent=1,
        )
        if not file.exists() or file.read_text() != text:
            temporary = file.with_suffix(".tmp")
            temporary.write_text(text)
            temporary.rename(file)
        if marker.exists() and not all(store.has(n.digest) for n in job.nodes):
            marker.unlink()
