# In: files of rows, on disk, behind a URL or on a hub. Out: cohort/examples.parquet.
#
# Each file of a hub data set has a rule of its own, a second one a number.
for number, (kept, name) in enumerate(SOURCE.fetched.items()):
    if made_by_another_study(kept):
        continue

    rule:
        name:
            f"fetch_data_{number + 1}" if number else "fetch_data"
        output:
            file=kept,
        log:
            f"{RESULTS}/logs/fetch_data/{number + 1}.log",
        # Runs where Snakemake was started: compute nodes often have no network.
        localrule: True
        conda:
            "../../../envs/torch.yaml"
        params:
            hub=settings(STUDY.data.hub),
            file=name,
        message:
            "Fetching {params.file} of {params.hub[id]} at {params.hub[revision]}"
        script:
            "../../scripts/fetch_data.py"


include: "read_examples.smk"
