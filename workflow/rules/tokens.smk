# In: cohort/examples.parquet and its account, the base's tokenizer. Out: cohort/tokens.csv; nothing
# where the task counts none.
TOKENS = []

if TASK.counts_tokens(settings(STUDY.task)):

    rule count_tokens:
        input:
            examples=EXAMPLES,
            account=f"{RESULTS}/cohort/examples.json",
            train=SPLITS["train"],
            base=BASES[list(STUDY.arms)[0]].format(seed=STUDY.train.seeds[0]),
        output:
            table=f"{RESULTS}/cohort/tokens.csv",
        log:
            f"{RESULTS}/logs/count_tokens.log",
        conda:
            "../../envs/torch.yaml"
        resources:
            mem_mb=4000,
            runtime=60,
        params:
            task=settings(STUDY.task),
        message:
            "Counting the tokens of all sources"
        script:
            "../scripts/count_tokens.py"

    TOKENS = rules.count_tokens.output.table
