# The plan behind the rules: which benchmarks, jobs and papers this run is about.
import os
import sys
from pathlib import Path

sys.path.insert(0, str(workflow.basedir))

from rankrepro import (
    artifacts,
    benchmarks,
    downloads,
    lock,
    rehearsal,
    status,
    store,
    tracking,
)
from rankrepro.cards import load_cards
from rankrepro.errors import RankReproError
from rankrepro.plan import make_plan, resources, write_jobs
from rankrepro.runner import writable

SCALE = config["scale"]
ONLY = (
    config["benchmarks"]
    if isinstance(config["benchmarks"], str)
    else ",".join(config["benchmarks"])
)
RESULTS = f"{config['results']}/{SCALE}"
REPORTS = f"{config['reports']}/{SCALE}"
STAND_INS = str(rehearsal.marker(Path(RESULTS)))
ENVIRONMENT = "../../environment.yml"

try:
    with store.room(Path(RESULTS)):
        writable(Path(RESULTS))
        CARDS = load_cards()
        PLAN = make_plan(
            CARDS,
            SCALE,
            config["papers"],
            ONLY,
            shortest=config["shortest_job"],
        )
        write_jobs(PLAN, Path(RESULTS))
        tracking.unmark(Path(RESULTS))
except RankReproError as error:
    raise WorkflowError(f"{type(error).__name__}: {error}")

BENCHMARKS = sorted({b for job in PLAN.jobs.values() for b in job.benchmarks})
ARTIFACTS = sorted(downloads.needed(PLAN))
TURNS = resources.turns(PLAN.jobs)
DATA_TURN = 1 + max(TURNS.values(), default=0)  # first, or long chains wait for it
JUDGED = ["results", "units", "examples"]
STATUS = status.Status(Path(RESULTS), PLAN)


wildcard_constraints:
    artifact="|".join(ARTIFACTS) or "none",
    benchmark="|".join(BENCHMARKS) or "none",
    job="|".join(PLAN.jobs) or "none",
    paper="|".join(PLAN.papers) or "none",


def final_outputs():
    """The summary of the run and all it stands on, so that whatever is missing is made again."""
    return [
        f"{REPORTS}/summary.md",
        f"{RESULTS}/{tracking.MARKER}",
        *(f"{RESULTS}/judged/{p}/{part}.json" for p in PLAN.papers for part in JUDGED),
        *(job_marker(j) for j in PLAN.jobs),
    ]


def begin_run():
    """In the main process of a real run: one run per results folder, its downloads, and a status line while it lasts."""
    try:
        with store.room(Path(RESULTS)):
            lock.hold(Path(RESULTS))
            print(downloads.summary(PLAN, artifacts.cache_dir()), file=sys.stderr)
            STATUS.start()
    except RankReproError as error:
        raise WorkflowError(f"{type(error).__name__}: {error}")


def end_run(failed=False):
    """Take the status line down; after a failure say which job failed and why."""
    STATUS.stop()
    if failed:
        STATUS.failures()


def card_file(paper):
    """The card of a paper, from the folder that Snakemake runs in."""
    return os.path.relpath(CARDS[paper].file)


def artifact_marker(artifact):
    return f"{RESULTS}/artifacts/{artifact}.json"


def benchmark_marker(benchmark):
    return f"{RESULTS}/benchmarks/{benchmark}/benchmark.json"


def job_marker(job):
    return f"{RESULTS}/jobs/{job}.done"


def threads_of(job):
    """0 in the plan is the whole machine: every core given to this run; on a cluster a node kept free of other jobs."""
    if job.threads:
        return job.threads
    on_cluster = workflow.non_local_exec or workflow.remote_exec
    return PLAN.scale["threads"] if on_cluster else workflow.cores


def stand_ins():
    """In a rehearsal, what stands in for models and data from outside."""
    return [STAND_INS] if PLAN.scale.get("stand_ins") else []


def jobs_of(paper):
    """The jobs that compute what a paper's page is made from."""
    wanted = set(PLAN.paper_nodes[paper])
    return [j.id for j in PLAN.jobs.values() if wanted & {n.digest for n in j.nodes}]
