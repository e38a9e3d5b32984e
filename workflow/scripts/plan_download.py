from peft_ablation.download_plan import plan_download, render_plan
from peft_ablation.logs import job

with job(snakemake.log[0]):
    print(render_plan(plan_download(sql=snakemake.input.sql, **snakemake.params)))
