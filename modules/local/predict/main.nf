// A handful of patients through one bundle, its start-up paid once: sCT and its uncertainty on each input's grid, with
// meta.members each network's own sCT as well.
process PREDICT {
    tag "${meta.arm} on ${meta.kind} ${patients.size()} patients${meta.second ? " ${meta.checkpoint}" : ""}"
    label 'process_medium'
    label 'process_gpu'
    maxForks params.gpu_forks
    container "${ContainerImage.of(projectDir, params.container_registry, 'predict')}"
    ext code: { CodeDigest.of(projectDir, 'predict.py') },
        gpu: true

    input:
    tuple val(meta),
        path(bundle, stageAs: 'model/*'),
        val(patients),
        path(images, stageAs: 'images/?/*'),
        path(masks, stageAs: 'masks/?/*')
    val settings
    val dicom
    path weights // of TotalSegmentator where it makes the body masks, a directory, or []

    output:
    // none where no image could be used; the summary says why
    tuple val(meta),
        val(patients),
        path("${meta.place}/*.mha", arity: '0..*'),
        path("${meta.place}/uncertainty/*.mha", arity: '0..*'),
        path("${meta.place}/members/*", type: 'dir', arity: '0..*'),
        emit: sct
    tuple val(meta), path("${meta.place}/dicom/*", type: 'dir'), emit: dicom, optional: true
    tuple val(meta), path("${meta.place}/pages/*.html"), emit: pages, optional: true // new patients: to look at, with the verdict
    tuple val(meta), path("${meta.place}/masks/*.mha"), emit: masks, optional: true // made where none was given
    tuple val(meta), path("${name}.json"), emit: summary
    path 'versions.yml', emit: versions

    script:
    name = ([meta.arm, meta.kind, meta.batch] + (meta.second ? [meta.checkpoint] : [])).join('__')
    // images and masks come as lists in the order of the patients; a patient without a mask has none in `masks`
    def staged = [images].flatten().collect { it.toString() }
    def given = [masks].flatten().collect { it.toString() }
    def rows = patients.withIndex().collect { patient, i ->
        def mask = patient.masked ? given[patients.take(i).count { it.masked }] : ''
        [patient.patient, staged[i], mask, patient.region ?: ''].collect { cell -> "\"${cell}\"" }.join(',')
    }
    """
    # code ${task.ext.code}
    export OMP_NUM_THREADS=${task.cpus} ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=${task.cpus}
    ${weights ? "export TOTALSEG_WEIGHTS_PATH=${weights}" : ''}
    cat > settings.json <<'JSON'
    ${settings}
    JSON
    cat > patients.csv <<'CSV'
    patient,image,mask,region
    ${rows.join('\n    ')}
    CSV
    predict.py ${task.ext.args} \\
        --model ${bundle} \\
        --modality ${meta.modality} \\
        --list patients.csv \\
        --settings settings.json \\
        --outdir ${meta.place} \\
        --place ${meta.place} \\
        ${meta.checkpoint ? "--checkpoint ${meta.checkpoint}" : ''} \\
        ${dicom ? "--dicom ${meta.place}/dicom" : ''} \\
        --record-failures \\
        ${meta.pages ? "--page ${meta.place}/pages" : ''} \\
        ${meta.members ? "--members ${meta.place}/members" : ''} \\
        --summary ${name}.json
    mkdir -p ${meta.place}/uncertainty
    for patient in ${patients*.patient.join(' ')}; do
        [ ! -e ${meta.place}/\${patient}_uncertainty.mha ] || mv ${meta.place}/\${patient}_uncertainty.mha ${meta.place}/uncertainty/\${patient}.mha
    done
    versions.py --process ${task.process} --code ${task.ext.code} torch segmentation-models-pytorch SimpleITK
    """

    stub:
    name = ([meta.arm, meta.kind, meta.batch] + (meta.second ? [meta.checkpoint] : [])).join('__')
    """
    mkdir -p ${meta.place}/uncertainty
    touch ${patients.collect { "${meta.place}/${it.patient}.mha ${meta.place}/uncertainty/${it.patient}.mha" }.join(' ')}
    ${meta.members ? "mkdir -p ${patients.collect { "${meta.place}/members/${it.patient}" }.join(' ')}" : ''}
    touch ${name}.json versions.yml
    """
}
