from peft_ablation.comparison.suite import compare_studies
from peft_ablation.logs import job

with job(snakemake.log[0]):
    compare_studies(
        suite=snakemake.params.suite,
        title=snakemake.params.title,
        studies=snakemake.params.studies,
        tables=snakemake.input.tables,
        words=snakemake.input.words,
        estimates=snakemake.input.estimates,
        confidence=snakemake.params.confidence,
        published=snakemake.params.published,
        sweeps=[
            (*told, *tables)
            for told, *tables in zip(
                snakemake.params.get("swept", ()),
                snakemake.input.get("sweeps", ())[::2],
                snakemake.input.get("sweeps", ())[1::2],
                strict=True,
            )
        ],
        table=snakemake.output.table,
        tests=snakemake.output.tests,
        summary=snakemake.output.summary,
        markdown_page=snakemake.output.markdown,
        html_page=snakemake.output.page,
    )
