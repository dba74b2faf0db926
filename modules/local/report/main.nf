// Everything a person wants to see, in one HTML file that opens offline, and every number of it in a CSV.
process REPORT {
    label 'process_low'
    container "${ContainerImage.of(projectDir, params.container_registry, 'report')}"
    cache 'deep' // by content: the list of versions is a new file in every run
    ext code: { CodeDigest.of(projectDir, 'report.py') }

    input:
    path sheet
    path settings
    path records, stageAs: 'records/?/*' // of all steps: each says itself what and whose it is
    path versions
    val run // what the engine alone knows of it: workflow, engine, parameters
    path main_script, stageAs: 'main/*' // the workflow's, which the provenance names

    output:
    path 'report', emit: report
    path 'evaluation/*', emit: evaluation // file by file: the directory as one would replace the patients' own beside them
    path 'ro-crate-metadata.json', emit: provenance
    path 'pipeline_info/*', emit: main_script

    script:
    """
    # code ${task.ext.code}
    mkdir -p records pipeline_info
    cp ${main_script} pipeline_info/main.nf
    cat > run.json <<'JSON'
    ${run}
    JSON
    versions.py --process ${task.process} --code ${task.ext.code} --out own.yml jinja2 matplotlib numpy scipy
    cat ${versions} own.yml > all.yml
    report.py ${task.ext.args} \\
        --records records \\
        --cohort ${sheet} \\
        --settings ${settings} \\
        --versions all.yml \\
        --run run.json \\
        --crate ro-crate-metadata.json \\
        --limit \\
        --outdir report \\
        --evaluation-out evaluation
    """

    stub:
    """
    mkdir report evaluation pipeline_info
    touch report/report.html evaluation/patients.csv ro-crate-metadata.json pipeline_info/main.nf
    """
}
