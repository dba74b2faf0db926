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

    output:
    path 'report', emit: report
    path 'evaluation/*', emit: evaluation // file by file: the directory as one would replace the patients' own beside them

    script:
    """
    # code ${task.ext.code}
    mkdir -p records
    report.py ${task.ext.args} \\
        --records records \\
        --cohort ${sheet} \\
        --settings ${settings} \\
        --versions ${versions} \\
        --limit \\
        --outdir report \\
        --evaluation-out evaluation
    """

    stub:
    """
    mkdir report evaluation
    touch report/report.html evaluation/patients.csv
    """
}
