# Stages, cells and timings. A job's name is the hash of its digests: what the store holds is never computed again.


rule job:
    input:
        benchmarks=lambda w: [benchmark_marker(b) for b in PLAN.jobs[w.job].benchmarks],
        models=lambda w: [artifact_marker(m) for m in PLAN.jobs[w.job].models],
        needs=lambda w: [job_marker(n) for n in PLAN.jobs[w.job].needs],
    output:
        f"{RESULTS}/jobs/{{job}}.done",
    log:
        f"{RESULTS}/logs/jobs/{{job}}.log",
    priority: lambda w: 0 if PLAN.jobs[w.job].threads == 0 else 1
    conda:
        ENVIRONMENT
    threads: lambda w: PLAN.jobs[w.job].threads or workflow.cores or 1
    resources:
        mem_mb=6000,
        runtime=lambda w: 10 + int(PLAN.jobs[w.job].seconds / 20),
    shell:
        f"python -m rankrepro.runner {RESULTS}/jobs/{{wildcards.job}}.json {{threads}} > {{log}} 2>&1"
