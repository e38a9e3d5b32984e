from peft_ablation.figures import plot_examples
from peft_ablation.logs import job

with job(snakemake.log[0]):
    plot_examples(
        snakemake.input.predictions,
        index=snakemake.input.index,
        arms=snakemake.params.arms,
        public=snakemake.params.public,
        seed=snakemake.params.seed,
        outputs=snakemake.output,
    )
