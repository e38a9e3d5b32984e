from peft_ablation.logs import job
from peft_ablation.scoring.nearest import write_nearest
from peft_ablation.tasks import ASSETS

with job(snakemake.log[0]):
    write_nearest(
        task=snakemake.params.task,
        train=snakemake.input.train,
        test=snakemake.input.test,
        assets={name: path for name, path in snakemake.input.items() if name in ASSETS},
        output=snakemake.output.table,
    )
