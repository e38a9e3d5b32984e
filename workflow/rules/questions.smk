# In: base, runs/<arm>/seed-<s>/model, grades if the study names any. Out: questions/, a few questions
# answered side by side, a sheet to grade the answers by, and the grades. One job asks all models: most
# of a job with so few questions is its start.
QUESTION_PAGES = []

if STUDY.questions:
    ASKED_SEEDS = STUDY.train.seeds if STUDY.questions.seed is None else (STUDY.questions.seed,)
    # An arm that is its base as it is would give the answers of that base again.
    ASKED_ARMS = [
        arm for arm, method in METHODS.items() if method.trains or method.parts or method.elsewhere
    ]
    ASKED_RUNS = [(arm, seed) for arm in ASKED_ARMS for seed in ASKED_SEEDS]
    # Each distinct untouched base, once a seed where it is another study's run of that seed.
    ASKED_BASES = {
        folder.format(seed=seed): (name, seed if "{seed}" in folder else None)
        for folder, name in untouched(BASES).items()
        for seed in ASKED_SEEDS
    }
    GRADES = f"{RESULTS}/questions/grades.csv"

    rule answer_questions:
        input:
            models=expand(f"{RUN}/model", arm=ASKED_ARMS, seed=ASKED_SEEDS),
            bases=list(ASKED_BASES),
            instruct=[CONFIG.instruct.folder] if CONFIG.instruct else [],
            train=SPLITS["train"],
        output:
            answers=f"{RESULTS}/questions/answers.csv",
        log:
            f"{RESULTS}/logs/answer_questions.log",
        benchmark:
            f"{RESULTS}/benchmarks/answer_questions.tsv"
        conda:
            "../../envs/torch.yaml"
        threads: STUDY.train.threads
        resources:
            **gpu_job(gpu_model="a100"),
            gpu=1,
            mem_mb=16000,
            runtime=60 + 10 * len(ASKED_RUNS),
        params:
            task=settings(STUDY.task),
            questions=STUDY.questions.asked,
            arms={arm: arm_protocol(arm) for arm in ASKED_ARMS},
            runs=ASKED_RUNS,
            base_of_run=[
                list(ASKED_BASES).index(BASES[arm].format(seed=seed)) for arm, seed in ASKED_RUNS
            ],
            untouched=[*ASKED_BASES.values(), *([(INSTRUCT, None)] if CONFIG.instruct else [])],
            train=settings(STUDY.train, "precision", "threads"),
        message:
            "Asking all models the questions"
        script:
            "../scripts/answer_questions.py"

    rule write_grading_sheet:
        input:
            answers=rules.answer_questions.output.answers,
        output:
            sheet=f"{RESULTS}/questions/grading_sheet.csv",
            key=f"{RESULTS}/questions/grading_key.csv",
        log:
            f"{RESULTS}/logs/write_grading_sheet.log",
        conda:
            "../../envs/tables.yaml"
        resources:
            mem_mb=2000,
            runtime=10,
        params:
            seed=STUDY.questions.sheet_seed,
        message:
            "Writing the sheet to grade answers by"
        script:
            "../scripts/write_grading_sheet.py"

    if STUDY.questions.grades:

        rule read_grades:
            input:
                grades=local(STUDY.questions.grades),
                key=rules.write_grading_sheet.output.key,
            output:
                table=GRADES,
            log:
                f"{RESULTS}/logs/read_grades.log",
            conda:
                "../../envs/tables.yaml"
            resources:
                mem_mb=2000,
                runtime=10,
            params:
                scale=STUDY.questions.scale,
            message:
                "Reading grades"
            script:
                "../scripts/read_grades.py"

    rule show_answers:
        input:
            answers=rules.answer_questions.output.answers,
            grades=GRADES if STUDY.questions.grades else [],
        output:
            page=report(
                f"{RESULTS}/questions/questions.html",
                caption="../report/questions.rst",
                category="4. Examples",
                labels={"what": "Questions, answered side by side"},
            ),
        log:
            f"{RESULTS}/logs/show_answers.log",
        conda:
            "../../envs/tables.yaml"
        resources:
            mem_mb=2000,
            runtime=10,
        params:
            study=CONFIG.name,
            # An answer may repeat what its model was trained on, here or in the run it starts from.
            public=not data_terms(CONFIG),
            scale=STUDY.questions.scale,
            confidence=STUDY.score.confidence,
        message:
            "Setting answers side by side"
        script:
            "../scripts/show_answers.py"

    QUESTION_PAGES = [
        *rules.answer_questions.output,
        *rules.write_grading_sheet.output,
        *rules.show_answers.output,
        *(rules.read_grades.output if STUDY.questions.grades else []),
    ]

    rule questions:
        input:
            QUESTION_PAGES,
