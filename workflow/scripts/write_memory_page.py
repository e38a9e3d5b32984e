from peft_ablation.comparison.memory import write_memory_page
from peft_ablation.logs import job

with job(snakemake.log[0]):
    write_memory_page(
        snakemake.input.table,
        published=snakemake.params.published,
        study=snakemake.params.study,
        page=snakemake.output.page,
    )
