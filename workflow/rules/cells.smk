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
    priority: lambda w: TURNS[w.job]
    conda:
        ENVIRONMENT
    threads: lambda w: threads_of(PLAN.jobs[w.job])
    resources:
        runtime=lambda w, attempt: resources.minutes(PLAN.jobs[w.job], attempt),
        mem_mb=lambda w, attempt: resources.memory_mb(PLAN.jobs[w.job], attempt),
        gpu=lambda w: resources.gpus(PLAN.jobs[w.job], PLAN.scale),
        slurm_extra=lambda w: "" if PLAN.jobs[w.job].threads else "--exclusive",
    shell:
        f"python -m rankrepro.runner {RESULTS}/jobs/{{wildcards.job}}.json {{threads}} > {{log}} 2>&1"
