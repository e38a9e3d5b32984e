# In: nothing. Out: a rendered tree in the layout of MIMIC-CXR-JPG, then as from any tree.


rule render_phantom:
    output:
        metadata=f"{RESULTS}/phantom/mimic-cxr-2.0.0-metadata.csv.gz",
        chexpert=f"{RESULTS}/phantom/mimic-cxr-2.0.0-chexpert.csv.gz",
        split=f"{RESULTS}/phantom/mimic-cxr-2.0.0-split.csv.gz",
        checksums=f"{RESULTS}/phantom/SHA256SUMS.txt",
        files=directory(f"{RESULTS}/phantom/files"),
    log:
        f"{RESULTS}/logs/render_phantom.log",
    conda:
        "../../../envs/tables.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        phantom=settings(STUDY.data.phantom),
        root=subpath(output.metadata, parent=True),
    message:
        "Rendering chest phantoms of {params.phantom[subjects]} subjects"
    script:
        "../../scripts/render_phantom.py"


include: "mimic.smk"
