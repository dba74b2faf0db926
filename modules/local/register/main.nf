// A patient's registration, or a batch of patients' one after the other: both images on one grid, the field that brought
// them there, and its quality.
process REGISTER {
    tag "${patients.size() > 1 ? "${patients.size()} patients" : patients[0].patient} ${meta.arm}"
    label 'process_medium'
    label 'process_gpu'
    container "${ContainerImage.of(projectDir, params.container_registry, 'register')}"
    ext code: { CodeDigest.of(projectDir, 'register.py') },
        gpu: { meta.engine in ['dense', 'sampled'] },
        pairs: { patients.size() }

    input:
    // the files in the order of the patients; masks of those who are `masked` only
    tuple val(meta), val(patients), path(images, stageAs: 'image?/*'), path(cts, stageAs: 'ct?/*'), path(masks, stageAs: 'mask?/*'), val(settings)
    path weights // of the networks whose features an arm compares, a directory, or []

    output:
    // of a pair that cannot be registered there is only the record, which says why
    tuple val(meta), val(patients), path("${meta.arm}/*/image.mha"), path("${meta.arm}/*/ct.mha"), path("${meta.arm}/*/mask.mha"), emit: pairs, optional: true
    tuple val(meta), path("${meta.arm}/*/displacement.mha"), path("${meta.arm}/*/transform.*"), emit: transforms, optional: true
    tuple val(meta), val(patients), path("${meta.arm}__*.json"), emit: qc
    tuple val(meta), path("${meta.arm}__*.npz"), emit: previews, optional: true
    path 'versions.yml', emit: versions

    script:
    // which image is deformed onto which is the arm's own (the baseline: the CT onto the input; IMPACT: the input onto the CT)
    def ctMoves = meta.direction == 'ct_to_image'
    def given = [masks].flatten()
    def calls = [patients, [images].flatten(), [cts].flatten()].transpose().collect { patient, image, ct ->
        "register ${patient.patient} '${patient.region}' ${ctMoves ? "${image} ${ct}" : "${ct} ${image}"}" +
            (patient.masked ? " --fixed-mask ${given.remove(0)}" : '')
    }
    """
    # code ${task.ext.code}
    export OMP_NUM_THREADS=${task.cpus} ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=${task.cpus}
    ${weights ? "export SYNTHCT_WEIGHTS=${weights} TOTALSEG_WEIGHTS_PATH=${weights}" : ''}
    cat > settings.json <<'JSON'
    ${settings}
    JSON
    register() {
    mkdir -p "${meta.arm}/\$1"
    register.py ${task.ext.args} \\
        --method ${meta.arm} \\
        --modality ${meta.modality} \\
        --patient "\$1" \\
        --region "\$2" \\
        --fixed "\$3" \\
        --moving "\$4" "\${@:5}" \\
        --moving-is ${ctMoves ? 'ct' : 'image'} \\
        --settings settings.json \\
        --out-image "${meta.arm}/\$1/${ctMoves ? 'ct' : 'image'}.mha" \\
        --out-fixed "${meta.arm}/\$1/${ctMoves ? 'image' : 'ct'}.mha" \\
        --out-mask "${meta.arm}/\$1/mask.mha" \\
        --out-displacement "${meta.arm}/\$1/displacement.mha" \\
        --out-transform "${meta.arm}/\$1/transform.h5" \\
        --qc "${meta.arm}__\$1.json" \\
        --record-failure \\
        --preview "${meta.arm}__\$1.npz"
    }
    ${calls.join('\n    ')}
    versions.py --process ${task.process} --code ${task.ext.code} SimpleITK itk-elastix torch
    """

    stub:
    """
    for patient in ${patients*.patient.join(' ')}; do
        mkdir -p ${meta.arm}/\$patient
        touch ${meta.arm}/\$patient/{image,ct,mask,displacement}.mha ${meta.arm}/\$patient/transform.h5 ${meta.arm}__\$patient.npz
        echo '{"record": "registration", "method": "${meta.arm}", "patient": "'\$patient'"}' > ${meta.arm}__\$patient.json
    done
    touch versions.yml
    """
}
