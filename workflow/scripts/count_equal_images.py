from peft_ablation.data.equal_images import count_equal_images
from peft_ablation.logs import job

with job(snakemake.log[0]):
    count_equal_images(
        snakemake.input.index,
        {name: snakemake.input[name] for name in ("train", "val", "test")},
        account=snakemake.output.account,
    )
