from peft_ablation.logs import job
from peft_ablation.verify import checked

with job(snakemake.log[0]) as log:
    log.info("%d files are as recorded", checked(snakemake.params.root))
