# Artifacts and benchmarks, and in a rehearsal the stand-ins for those that no rehearsal can fetch.


rule stand_ins:
    output:
        STAND_INS,
    log:
        f"{RESULTS}/logs/stand-ins.log",
    conda:
        ENVIRONMENT
    shell:
        f"python -m rankrepro internal stand-ins --results {RESULTS} > {{log}} 2>&1"


rule artifact:
    input:
        stand_ins(),
    output:
        f"{RESULTS}/artifacts/{{artifact}}.json",
    log:
        f"{RESULTS}/logs/artifacts/{{artifact}}.log",
    priority: DATA_TURN
    conda:
        ENVIRONMENT
    params:
        digest=lambda w: artifacts.load_catalogue()[w.artifact].digest,
    shell:
        "python -m rankrepro internal artifact {wildcards.artifact} {output} > {log} 2>&1"


rule benchmark:
    input:
        stand_ins(),
        lambda w: [artifact_marker(a) for a in benchmarks.get(w.benchmark).artifacts],
    output:
        f"{RESULTS}/benchmarks/{{benchmark}}/benchmark.json",
    log:
        f"{RESULTS}/logs/benchmarks/{{benchmark}}.log",
    priority: DATA_TURN
    conda:
        ENVIRONMENT
    params:
        digest=lambda w: benchmarks.digest(w.benchmark),
    shell:
        "python -m rankrepro internal benchmark {wildcards.benchmark} {output} > {log} 2>&1"
