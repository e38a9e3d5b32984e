from peft_ablation.logs import job
from peft_ablation.sources.mimic.reports import write_reports

with job(snakemake.log[0]):
    write_reports(
        snakemake.input.table,
        **snakemake.params.report,
        output=snakemake.output.table,
        account=snakemake.output.account,
    )
