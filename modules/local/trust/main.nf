// What a study's held-out patients teach the bundle of one arm, so that --mode predict says use, look or do not use.
process TRUST {
    tag "${arm}"
    label 'process_single'
    container "${ContainerImage.of(projectDir, params.container_registry, 'bundle')}"
    ext code: { CodeDigest.of(projectDir, 'bundle.py') }

    input:
    tuple val(arm), path(bundle, stageAs: 'model/*'), path(predictions, stageAs: 'predictions/*'), path(metrics, stageAs: 'metrics/*')

    output:
    tuple val(arm), path("${arm}/trust.json"), emit: record
    path 'versions.yml', emit: versions

    script:
    """
    # code ${task.ext.code}
    mkdir ${arm}
    bundle.py learn ${task.ext.args} \\
        ${bundle} \\
        --predictions predictions \\
        --metrics metrics \\
        --out ${arm}/trust.json
    versions.py --process ${task.process} --code ${task.ext.code}
    """

    stub:
    """
    mkdir ${arm}
    touch ${arm}/trust.json versions.yml
    """
}
