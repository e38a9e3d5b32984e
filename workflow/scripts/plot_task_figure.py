from peft_ablation.figures.for_task import FigureInputs, draw_task_figure
from peft_ablation.logs import job
from peft_ablation.tasks import ASSETS

with job(snakemake.log[0]):
    arms = snakemake.params.arms
    draw_task_figure(
        snakemake.params.name,
        FigureInputs(
            task=snakemake.params.task,
            arms=arms,
            predictions=dict(zip(arms, snakemake.input.predictions, strict=True)),
            models=dict(zip(arms, snakemake.input.models, strict=False)),
            bases=dict(zip(arms, snakemake.input.bases, strict=False)),
            assets={name: path for name, path in snakemake.input.items() if name in ASSETS},
            train=snakemake.input.train,
            public=snakemake.params.public,
            seed=snakemake.params.seed,
        ),
        snakemake.output,
    )
