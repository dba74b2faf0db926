// Everything a person wants to see, in one HTML file that opens offline, and every number of it in a CSV.
process REPORT {
    label 'process_low'
    container "${ContainerImage.of(projectDir, params.container_registry, 'report')}"
    cache 'deep' // by content: the list of versions is a new file in every run
    ext code: { CodeDigest.of(projectDir, 'report.py') }

    input:
    path sheet
    path settings
    path folds, stageAs: 'folds/*'
    path excluded, stageAs: 'excluded/*'
    path qc, stageAs: 'qc/*'
    path previews, stageAs: 'previews/*'
    path logs, stageAs: 'logs/*'
    path metrics, stageAs: 'metrics/*'
    path slices, stageAs: 'slices/*'
    path predictions, stageAs: 'predictions/*'
    path dose, stageAs: 'dose/*'
    path versions

    output:
    path 'report', emit: report
    path 'evaluation/*', emit: evaluation // file by file: the directory as one would replace the patients' own beside them

    script:
    """
    # code ${task.ext.code}
    mkdir -p folds excluded qc previews logs metrics slices predictions dose
    report.py ${task.ext.args} \\
        --cohort ${sheet} \\
        --settings ${settings} \\
        --folds folds \\
        --excluded excluded \\
        --qc qc \\
        --previews previews \\
        --logs logs \\
        --metrics metrics \\
        --slices slices \\
        --predictions predictions \\
        --dose dose \\
        --versions ${versions} \\
        --outdir report \\
        --evaluation-out evaluation
    """

    stub:
    """
    mkdir report evaluation
    touch report/report.html evaluation/patients.csv
    """
}
