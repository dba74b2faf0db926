// One patient, one registration: both images on one grid, the field that brought them there, and its quality.
process REGISTER {
    tag "${meta.patient} ${meta.arm}"
    label 'process_medium'
    label 'process_gpu'
    container "${ContainerImage.of(projectDir, params.container_registry, 'register')}"
    ext code: { CodeDigest.of(projectDir, 'register.py') },
        gpu: { meta.engine in ['dense', 'sampled'] }

    input:
    tuple val(meta), path(image, stageAs: 'image/*'), path(ct, stageAs: 'ct/*'), path(mask, stageAs: 'mask/*'), val(settings)
    path weights // of the networks whose features an arm compares, a directory, or []

    output:
    // of a pair that cannot be registered there is only the record, which says why
    tuple val(meta), path("${out}/image.mha"), path("${out}/ct.mha"), path("${out}/mask.mha"), emit: pair, optional: true
    tuple val(meta), path("${out}/displacement.mha"), path("${out}/transform.*"), emit: transform, optional: true
    tuple val(meta), path("${meta.arm}__${meta.patient}.json"), emit: qc
    tuple val(meta), path("${meta.arm}__${meta.patient}.npz"), emit: preview, optional: true
    path 'versions.yml', emit: versions

    script:
    // which image is deformed onto which is the arm's own (the baseline: the CT onto the input; IMPACT: the input onto the CT)
    def ctMoves = meta.direction == 'ct_to_image'
    out = "${meta.arm}/${meta.patient}"
    """
    # code ${task.ext.code}
    export OMP_NUM_THREADS=${task.cpus} ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=${task.cpus}
    ${weights ? "export SYNTHCT_WEIGHTS=${weights} TOTALSEG_WEIGHTS_PATH=${weights}" : ''}
    cat > settings.json <<'JSON'
    ${settings}
    JSON
    mkdir -p ${out}
    register.py ${task.ext.args} \\
        --method ${meta.arm} \\
        --modality ${meta.modality} \\
        --patient ${meta.patient} \\
        --region '${meta.region}' \\
        --fixed ${ctMoves ? image : ct} \\
        --moving ${ctMoves ? ct : image} \\
        --moving-is ${ctMoves ? 'ct' : 'image'} \\
        ${mask ? "--fixed-mask ${mask}" : ''} \\
        --settings settings.json \\
        --out-image ${out}/${ctMoves ? 'ct' : 'image'}.mha \\
        --out-fixed ${out}/${ctMoves ? 'image' : 'ct'}.mha \\
        --out-mask ${out}/mask.mha \\
        --out-displacement ${out}/displacement.mha \\
        --out-transform ${out}/transform.h5 \\
        --qc ${meta.arm}__${meta.patient}.json \\
        --record-failure \\
        --preview ${meta.arm}__${meta.patient}.npz
    versions.py --process ${task.process} --code ${task.ext.code} SimpleITK itk-elastix torch
    """

    stub:
    out = "${meta.arm}/${meta.patient}"
    """
    mkdir -p ${out}
    touch ${out}/{image,ct,mask,displacement}.mha ${out}/transform.h5 ${meta.arm}__${meta.patient}.npz versions.yml
    echo '{"record": "registration", "method": "${meta.arm}", "patient": "${meta.patient}"}' > ${meta.arm}__${meta.patient}.json
    """
}
