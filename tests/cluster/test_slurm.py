"""profiles/slurm on a real Slurm: what it is asked for, what it survives, and that results are those of a local run."""

from __future__ import annotations

import subprocess
from datetime import datetime
from pathlib import Path

import pytest
from slurm_cluster import Cluster, wait

from rankrepro.cards import load_cards
from rankrepro.code import Code
from rankrepro.plan import Plan, make_plan, resources
from tests_support import Project, add_toy, make_project

pytestmark = pytest.mark.cluster
PAPERS = ["baselines", "icr", "anyloss"]
RUNNING = ("RUNNING", "PENDING")


def start(project: Project, cluster: Cluster, *options: str, papers: str = "toy", **env: str) -> subprocess.Popen[str]:
    """The run as a user starts it on a login node, only with quicker looks at the queue."""
    path = f"{cluster.folder / 'bin'}:{project.env()['PATH']}"
    return subprocess.Popen(
        ["snakemake", "--profile", "profiles/slurm", "--config", f"papers={papers}",
         "--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "10", *options],
        cwd=project.folder, env={**cluster.env, **project.env(), "PATH": path, **env},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(run: subprocess.Popen[str], seconds: float = 900) -> str:
    try:
        return run.communicate(timeout=seconds)[0]
    finally:
        if run.poll() is None:
            run.terminate()
            run.wait(60)


def job_of(slurm_job: dict[str, str]) -> str:
    return slurm_job["Comment"].removeprefix("rule_job_wildcards_")


def asked(slurm_job: dict[str, str]) -> tuple[int, str, str]:
    """(minutes, memory, CPUs) as they reached Slurm."""
    hours, minutes, _ = slurm_job["TimeLimit"].split(":")
    return 60 * int(hours) + int(minutes), slurm_job["MinMemoryNode"], slurm_job["CPUs/Task"]


def expected(plan: Plan, job: str, attempt: int = 1) -> tuple[int, str, str]:
    planned = plan.jobs[job]
    threads = planned.threads or plan.scale["threads"]
    return resources.minutes(planned, attempt), f"{resources.memory_mb(planned, attempt)}M", str(threads)


def test_a_dead_node_and_a_cancelled_job_cost_a_retry_and_change_no_result(tmp_path: Path, cluster: Cluster) -> None:
    local, remote = (add_toy(make_project(tmp_path / name, [])) for name in ("local", "remote"))
    for project in (local, remote):
        card = project.folder / "papers" / "llm_rerankers" / "toy.yaml"
        card.write_text(card.read_text().replace("batch: 2", "batch: 1"))
    local.run()
    plan = make_plan(load_cards(remote.folder / "papers"), "quick", code=Code(root=remote.folder), shortest=50)
    timing, cells = sorted(plan.jobs, key=lambda j: plan.jobs[j].threads)  # all cells in one job; timings are alone

    run = start(remote, cluster, "--set-resources", "job:gpu=1", TOY_PAUSE="3")
    try:

        def shard() -> list[bytes]:
            files = list(remote.results.glob("shards/*/units.jsonl"))
            return files[0].read_bytes().splitlines() if files else []

        wait(lambda: len(shard()) >= 2, 180, "the first shards", cluster)
        [first] = cluster.jobs("RUNNING")
        assert job_of(first) == cells
        assert asked(first) == expected(plan, cells)
        assert first["TresPerJob"] == "gres:gpu:1"
        assert Path(first["StdOut"]) == remote.folder / "results/slurm/rule_job" / cells / f"{first['JobId']}.log"

        kept = shard()
        cluster.kill(first["NodeList"])
        wait(lambda: len(shard()) > len(kept), 240, "the job to go on at the other node", cluster)
        [second] = cluster.jobs("RUNNING")
        assert (second["JobId"], second["Restarts"]) == (first["JobId"], "1")
        assert second["NodeList"] != first["NodeList"]
        assert shard()[: len(kept)] == kept

        kept = shard()
        cluster.run("scancel", second["JobId"])
        wait(lambda: len(shard()) > len(kept), 180, "a retry of the cancelled job", cluster)
        [third] = cluster.jobs("RUNNING")
        assert third["JobId"] != second["JobId"]
        assert job_of(third) == cells
        assert asked(third) == expected(plan, cells, attempt=2)
        assert shard()[: len(kept)] == kept
        cluster.start(first["NodeList"])
    finally:
        output = finish(run)

    assert run.returncode == 0, output
    assert remote.store() == local.store()
    assert (remote.folder / "reports/quick/toy/index.html").exists()
    logs = remote.results / "logs"
    written = {f.relative_to(logs).as_posix() for f in logs.rglob("*.log")}
    assert {f"jobs/{cells}.log", f"jobs/{timing}.log", "judge/toy.log", "report.log"} <= written
    slurm_logs = {f.name for f in (remote.folder / "results/slurm/rule_job" / cells).glob("*.log")}
    assert slurm_logs == {f"{first['JobId']}.log"}  # the cancelled one's; of jobs that went well none is left
    [alone] = [j for j in cluster.jobs("COMPLETED") if job_of(j) == timing]
    assert (first["OverSubscribe"], alone["OverSubscribe"]) == ("OK", "NO")  # sbatch --exclusive


def test_a_run_that_fails_names_slurms_reason_and_goes_on_with_the_same_command(toy: Project, cluster: Cluster) -> None:
    run = start(toy, cluster, "--retries", "0", TOY_PAUSE="5")
    try:
        wait(lambda: list(toy.results.glob("shards/*/units.jsonl")), 180, "the first shard", cluster)
        [job] = cluster.jobs("RUNNING")
        cluster.run("scancel", job["JobId"])
    finally:
        output = finish(run)
    assert run.returncode != 0
    log = toy.folder / "results/slurm/rule_job" / job_of(job) / f"{job['JobId']}.log"
    assert "CANCELLED" in log.read_text()
    assert f"(Slurm's log: {log.relative_to(toy.folder)})" in output
    assert "CANCELLED" in output

    again = start(toy, cluster)
    output = finish(again)
    assert again.returncode == 0, output


@pytest.mark.slow
def test_three_papers_at_scale_quick(tmp_path: Path, cluster: Cluster) -> None:
    remote, local = (make_project(tmp_path / name, PAPERS) for name in ("remote", "local"))
    before = {j["JobId"] for j in cluster.jobs()}
    run = start(remote, cluster, papers=",".join(PAPERS))
    seen: dict[str, dict[str, str]] = {}

    def over() -> bool:
        seen.update({j["JobId"]: j for j in cluster.jobs("RUNNING") if j["JobId"] not in before})
        return run.poll() is not None

    try:
        wait(over, 3000, "the run", cluster)
    finally:
        output = finish(run)
    assert run.returncode == 0, output

    plan = make_plan(load_cards(), "quick", PAPERS, shortest=50)
    assert {job_of(j) for j in seen.values()} == set(plan.jobs)
    for job in seen.values():
        assert asked(job) == expected(plan, job_of(job))

    for line in (cluster.folder / "jobs.txt").read_text().splitlines():
        record = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if record["JobId"] in seen:
            start_, end = (datetime.fromisoformat(record[k]) for k in ("StartTime", "EndTime"))
            job = plan.jobs[job_of(seen[record["JobId"]])]
            print(f"{job.title}: {(end - start_).total_seconds():.0f} s, predicted {job.seconds:.0f}")

    local.run(f"papers={','.join(PAPERS)}", timeout=3000)
    assert remote.store() == local.store()
