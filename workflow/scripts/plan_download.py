from peft_ablation.logs import job
from peft_ablation.sources.mimic.download_plan import plan_download, render_plan

with job(snakemake.log[0]):
    print(render_plan(plan_download(sql=snakemake.input.sql, **snakemake.params)))
