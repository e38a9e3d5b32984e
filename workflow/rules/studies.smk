# Other studies whose runs this one starts from: each is this whole workflow, as a module of itself.
OTHERS = {run.config.name: run.config for run in STARTS.values() if run.config.name != CONFIG.name}

for other in OTHERS.values():
    if not made_by_another_study(f"{other.results}/cohort/examples.parquet"):
        other_study = other.name.replace(".", "_")
        other_rules = f"{other_study}_*"

        module:
            name: other_study
            snakefile:
                "../../Snakefile"
            config:
                {**SITE, "study": other.site.study, "overrides": {}}

        use rule * from other_study as other_rules
