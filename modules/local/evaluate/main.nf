// One patient's sCT against a CT, with the challenge's metrics.
process EVALUATE {
    tag "${meta.patient} ${meta.trained} on ${meta.tested}${meta.second ? " ${meta.checkpoint}" : ""}"
    label 'process_low'
    container "${ContainerImage.of(projectDir, params.container_registry, 'evaluate')}"
    ext code: { CodeDigest.of(projectDir, 'evaluate.py') }

    input:
    // prediction: sCT, uncertainty; pair: image, CT, mask; labels: of the sCT, of the CT. What is last may be absent.
    tuple val(meta),
        path(prediction, stageAs: 'prediction/?/*'),
        path(pair, stageAs: 'pair/?/*'),
        path(baselines),
        path(labels, stageAs: 'labels/?/*')
    val settings

    output:
    tuple val(meta), path("${name}.json"), emit: metrics
    tuple val(meta), path("${name}.npz"), emit: slices, optional: true // absent where the pair cannot be scored; the metrics say why
    path 'versions.yml', emit: versions

    script:
    def (sct, uncertainty) = [prediction].flatten()
    def (image, ct, mask) = [pair].flatten()
    def (sct_labels, ct_labels) = [labels].flatten()
    name = ([meta.trained, meta.tested, meta.patient] + (meta.second ? [meta.checkpoint] : [])).join('__')
    """
    # code ${task.ext.code}
    export OMP_NUM_THREADS=${task.cpus} ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=${task.cpus}
    cat > settings.json <<'JSON'
    ${settings}
    JSON
    evaluate.py ${task.ext.args} \\
        --sct ${sct} \\
        --ct ${ct} \\
        ${meta.resample ? '--resample-ct' : ''} \\
        ${mask ? "--mask ${mask}" : ''} \\
        --image ${image} \\
        ${uncertainty ? "--uncertainty ${uncertainty}" : ''} \\
        ${baselines ? "--baselines ${baselines}" : ''} \\
        ${sct_labels ? "--sct-seg ${sct_labels} --ct-seg ${ct_labels}" : ''} \\
        --patient ${meta.patient} \\
        --region '${meta.region}' \\
        --trained-on ${meta.trained} \\
        --tested-on ${meta.tested} \\
        --checkpoint '${meta.checkpoint ?: ''}' \\
        --settings settings.json \\
        --record-failure \\
        --slices ${name}.npz \\
        --out ${name}.json
    versions.py --process ${task.process} --code ${task.ext.code} numpy scipy SimpleITK
    """

    stub:
    name = ([meta.trained, meta.tested, meta.patient] + (meta.second ? [meta.checkpoint] : [])).join('__')
    """
    touch ${name}.json ${name}.npz versions.yml
    """
}
