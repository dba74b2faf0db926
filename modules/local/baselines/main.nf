// The two trivial predictors that a model has to beat, fitted on the arm's training patients.
process BASELINES {
    tag "${arm}"
    label 'process_single'
    container "${ContainerImage.of(projectDir, params.container_registry, 'baselines')}"
    ext code: { CodeDigest.of(projectDir, 'baselines.py') }

    input:
    tuple val(arm), path(cases, stageAs: 'cases/*'), path(folds)

    output:
    tuple val(arm), path("${arm}__baselines.json"), emit: baselines
    path 'versions.yml', emit: versions

    script:
    """
    # code ${task.ext.code}
    baselines.py ${task.ext.args} --cases cases/* --folds ${folds} --out ${arm}__baselines.json
    versions.py --process ${task.process} --code ${task.ext.code} numpy
    """

    stub:
    """
    touch ${arm}__baselines.json versions.yml
    """
}
