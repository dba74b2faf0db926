// The held-out test and the folds of an arm, and the trainings to make of them. The draw is the same for all arms; the
// exclusions are the arm's own.
process FOLDS {
    tag "${arm}"
    label 'process_single'
    container "${ContainerImage.of(projectDir, params.container_registry, 'folds')}"
    cache 'deep'
    ext code: { CodeDigest.of(projectDir, 'folds.py') }

    input:
    tuple val(arm), path(excluded)
    path cohort // CSV: patient, region, center, split
    path lists, stageAs: 'lists/*'
    val settings

    output:
    tuple val(arm), path("${arm}__folds.json"), emit: plan
    tuple val(arm), path("${arm}__runs.csv"), emit: runs
    tuple val(arm), path("${arm}__lists"), emit: lists
    path 'versions.yml', emit: versions

    script:
    def given = [lists].flatten().collect { "--list ${it}" }.join(' ')
    """
    # code ${task.ext.code}
    cat > settings.json <<'JSON'
    ${settings}
    JSON
    folds.py ${task.ext.args} \\
        --sheet ${cohort} \\
        --excluded ${excluded} ${given} \\
        --arm ${arm} \\
        --settings settings.json \\
        --out ${arm}__folds.json \\
        --runs-out ${arm}__runs.csv \\
        --lists-out ${arm}__lists
    versions.py --process ${task.process} --code ${task.ext.code}
    """

    stub:
    """
    cat > settings.json <<'JSON'
    ${settings}
    JSON
    folds.py --sheet ${cohort} --arm ${arm} --settings settings.json \\
        --out ${arm}__folds.json --runs-out ${arm}__runs.csv --lists-out ${arm}__lists
    touch versions.yml
    """
}
