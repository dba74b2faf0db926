// A handful of patients through one bundle, its start-up paid once: sCT and its uncertainty on each input's grid.
process PREDICT {
    tag "${meta.arm} on ${meta.kind} ${patients.size()} patients"
    label 'process_medium'
    label 'process_gpu'
    container "${ContainerImage.of(projectDir, params.container_registry, 'predict')}"
    ext code: { CodeDigest.of(projectDir, 'predict.py') },
        place: { meta.kind == 'native' ? "sct/${meta.arm}" : "sct/${meta.arm}/on_${meta.kind}" }

    input:
    tuple val(meta), path(bundle), val(patients), path(images, stageAs: 'images/?/*'), path(masks, stageAs: 'masks/?/*')
    val settings
    val dicom

    output:
    tuple val(meta), val(patients), path('sct/*.mha'), path('uncertainty/*.mha'), emit: sct
    tuple val(meta), path('dicom/*', type: 'dir'), emit: dicom, optional: true
    tuple val(meta), path("${meta.arm}__${meta.kind}__${meta.batch}.json"), emit: summary
    path 'versions.yml', emit: versions

    script:
    // images and masks come as lists in the order of the patients; a patient without a mask has none in `masks`
    def staged = [images].flatten().collect { it.toString() }
    def given = [masks].flatten().collect { it.toString() }
    def rows = patients.withIndex().collect { patient, i ->
        def mask = patient.masked ? given[patients.take(i).count { it.masked }] : ''
        "${patient.patient},${staged[i]},${mask},${patient.region ?: ''}"
    }
    """
    # code ${task.ext.code}
    export OMP_NUM_THREADS=${task.cpus} ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=${task.cpus}
    cat > settings.json <<'JSON'
    ${settings}
    JSON
    cat > patients.csv <<'CSV'
    patient,image,mask,region
    ${rows.join('\n    ')}
    CSV
    predict.py \\
        --model ${bundle} \\
        --list patients.csv \\
        --settings settings.json \\
        --outdir sct \\
        ${dicom ? '--dicom dicom' : ''} \\
        --summary ${meta.arm}__${meta.kind}__${meta.batch}.json
    mkdir uncertainty
    for patient in ${patients*.patient.join(' ')}; do mv sct/\${patient}_uncertainty.mha uncertainty/\${patient}.mha; done
    versions.py --process ${task.process} torch segmentation-models-pytorch SimpleITK
    """

    stub:
    """
    mkdir sct uncertainty
    touch ${patients.collect { "sct/${it.patient}.mha uncertainty/${it.patient}.mha" }.join(' ')}
    touch ${meta.arm}__${meta.kind}__${meta.batch}.json versions.yml
    """
}
