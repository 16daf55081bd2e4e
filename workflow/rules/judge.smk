# The only rules that read truth, and what they write for the reader.


rule judge:
    input:
        jobs=lambda w: [job_marker(j) for j in jobs_of(w.paper)],
        benchmarks=lambda w: [benchmark_marker(b) for b in PLAN.benchmarks[w.paper]],
        card=lambda w: card_file(w.paper),
    output:
        [f"{RESULTS}/judged/{{paper}}/{part}.json" for part in JUDGED],
    log:
        f"{RESULTS}/logs/judge/{{paper}}.log",
    conda:
        ENVIRONMENT
    params:
        digests=lambda w: PLAN.paper_nodes[w.paper],
        only=ONLY,
    shell:
        f"python -m rankrepro internal judge {{wildcards.paper}} --scale {SCALE} --results {RESULTS}"
        " --benchmarks {params.only:q} > {log} 2>&1"


rule track:
    # the one writer of MLflow; `localrule` because its store is a file on this machine, or a server this machine sees
    input:
        results=[f"{RESULTS}/judged/{p}/results.json" for p in PLAN.papers],
        units=[f"{RESULTS}/judged/{p}/units.json" for p in PLAN.papers],
    output:
        f"{RESULTS}/{tracking.MARKER}",
    log:
        f"{RESULTS}/logs/track.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        papers=PLAN.papers,
        store=tracking.shown(Path(config["results"])),
    shell:
        f"python -m rankrepro internal track --scale {SCALE} --results {RESULTS} {{params.papers}} > {{log}} 2>&1"


rule report:
    input:
        [f"{RESULTS}/judged/{p}/results.json" for p in PLAN.papers],
    output:
        f"{REPORTS}/summary.md",
    log:
        f"{RESULTS}/logs/report.log",
    conda:
        ENVIRONMENT
    params:
        papers=PLAN.papers,
    shell:
        f"python -m rankrepro internal report --scale {SCALE} --results {RESULTS} --reports {REPORTS}"
        " {params.papers} > {log} 2>&1"
