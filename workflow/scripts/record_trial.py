from peft_ablation.logs import job
from peft_ablation.training.tuning import record_trial

with job(snakemake.log[0]):
    record_trial(
        snakemake.input.chunk, history=snakemake.output.history, trial=snakemake.output.trial
    )
