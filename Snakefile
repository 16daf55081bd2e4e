# rankrepro: does a ranking paper's claim hold on this machine, against a fair baseline, and at what cost?
# snakemake --cores all [--config scale=desk papers=baselines,icr]
from snakemake.utils import min_version, validate

min_version("9.0")


configfile: "config/config.yaml"


validate(config, "workflow/schemas/config.schema.json")


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/cells.smk"
include: "workflow/rules/judge.smk"


# what a cluster should not queue: minutes at most, or in need of the internet
localrules:
    all,
    artifact,
    benchmark,
    judge,
    report,
    stand_ins,


rule all:
    default_target: True
    input:
        final_outputs(),


onstart:
    begin_run()


onsuccess:
    end_run()


onerror:
    end_run(failed=True)
