// Which pairs of an arm are good enough to be trained on, and why the others are not.
process CURATE {
    tag "${arm}"
    label 'process_single'
    container "${ContainerImage.of(projectDir, params.container_registry, 'curate')}"
    ext code: { CodeDigest.of(projectDir, 'curate.py') }

    input:
    tuple val(arm), path(qc, stageAs: 'qc/*'), path(cases, stageAs: 'cases/*'), path(exclude) // records of REGISTER and of PREPROCESS
    val settings

    output:
    tuple val(arm), path("${arm}__kept.csv"), path("${arm}__excluded.csv"), emit: lists
    tuple val(arm), path("${arm}__recipes.json"), emit: recipes
    path 'versions.yml', emit: versions

    script:
    """
    # code ${task.ext.code}
    cat > settings.json <<'JSON'
    ${settings}
    JSON
    curate.py ${task.ext.args} \\
        --qc qc \\
        --arm ${arm} \\
        ${cases ? '--cases cases' : ''} \\
        ${exclude ? "--exclude ${exclude}" : ''} \\
        --settings settings.json \\
        --out-kept ${arm}__kept.csv \\
        --out-excluded ${arm}__excluded.csv \\
        --out-recipes ${arm}__recipes.json
    versions.py --process ${task.process} --code ${task.ext.code}
    """

    stub:
    """
    cat > settings.json <<'JSON'
    ${settings}
    JSON
    curate.py --qc qc --arm ${arm} ${cases ? '--cases cases' : ''} ${exclude ? "--exclude ${exclude}" : ''} --settings settings.json \\
        --out-kept ${arm}__kept.csv --out-excluded ${arm}__excluded.csv --out-recipes ${arm}__recipes.json
    touch versions.yml
    """
}
