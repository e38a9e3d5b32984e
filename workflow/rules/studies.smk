# Other studies whose runs this one starts from: each is this whole workflow, as a module of itself.
OTHERS = {run.config.name: run.config for run in STARTS.values() if run.config.name != CONFIG.name}

for other in OTHERS.values():
    if not made_by_another_study(f"{other.results}/cohort/examples.parquet"):
        # A module's name becomes a name here: a study called `settings` must not hide the function.
        other_study = f"study_{other.name.replace('.', '_')}"
        other_rules = f"{other_study.removeprefix('study_')}_*"

        module:
            name: other_study
            snakefile:
                "../../Snakefile"
            config:
                {**SITE, "study": other.site.study, "overrides": {}}

        use rule * from other_study as other_rules
