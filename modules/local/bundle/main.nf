// All models of an arm in one verified directory, ready for --mode predict.
process BUNDLE {
    tag "${arm}"
    label 'process_single'
    container "${ContainerImage.of(projectDir, params.container_registry, 'bundle')}"
    ext code: { CodeDigest.of(projectDir, 'bundle.py') }

    input:
    tuple val(arm), path(models, stageAs: 'checkpoints/*'), path(folds), path(recipes), val(settings)

    output:
    tuple val(arm), path("${arm}/*"), emit: bundle // file by file, as they are published
    path 'versions.yml', emit: versions

    script:
    """
    # code ${task.ext.code}
    cat > settings.json <<'JSON'
    ${settings}
    JSON
    bundle.py create ${task.ext.args} \\
        --settings settings.json \\
        --arm ${arm} \\
        --cohort ${folds} \\
        --recipes ${recipes} \\
        --out ${arm} \\
        --checkpoints checkpoints/*
    versions.py --process ${task.process} --code ${task.ext.code} torch safetensors
    """

    stub:
    """
    mkdir ${arm}
    cat > ${arm}/bundle.json <<'JSON'
    ${settings}
    JSON
    touch versions.yml
    """
}
