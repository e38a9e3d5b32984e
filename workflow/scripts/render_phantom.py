from peft_ablation.logs import job
from peft_ablation.sources.phantom.tree import render_tree

with job(snakemake.log[0]):
    render_tree(snakemake.params.root, **snakemake.params.phantom)
