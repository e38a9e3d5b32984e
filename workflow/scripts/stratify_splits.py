from peft_ablation.data.splits import split_table
from peft_ablation.logs import job

with job(snakemake.log[0]):
    split_table(
        snakemake.input.table,
        unit=snakemake.params.unit,
        units=snakemake.params.units,
        given=snakemake.params.split["given"],
        shares={name: snakemake.params.split[name] for name in ("train", "val", "test")},
        seed=snakemake.params.split["seed"],
        outputs={name: snakemake.output[name] for name in ("train", "val", "test")},
        csv=dict(zip(("train", "val", "test"), snakemake.output.csv, strict=True)),
        balance=snakemake.output.balance,
        account=snakemake.output.account,
    )
