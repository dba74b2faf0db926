// One registered pair becomes one training case: memory-mapped int16 volumes inside the body mask.
process PREPROCESS {
    tag "${meta.patient} ${meta.arm}"
    label 'process_low'
    container "${ContainerImage.of(projectDir, params.container_registry, 'preprocess')}"
    ext code: { CodeDigest.of(projectDir, 'preprocess.py') }

    input:
    tuple val(meta), path(image), path(ct), path(mask)
    val settings

    output:
    // of a pair that cannot be used there is only the record, which says why
    tuple val(meta), path("${meta.patient}"), emit: case_dir, optional: true
    tuple val(meta), path("${meta.arm}__${meta.patient}.json"), emit: record
    path 'versions.yml', emit: versions

    script:
    """
    # code ${task.ext.code}
    export OMP_NUM_THREADS=${task.cpus} ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=${task.cpus}
    cat > settings.json <<'JSON'
    ${settings}
    JSON
    preprocess.py ${task.ext.args} \\
        --modality ${meta.modality} \\
        --patient ${meta.patient} \\
        --region '${meta.region}' \\
        --center '${meta.center}' \\
        --arm ${meta.arm} \\
        --image ${image} \\
        --ct ${ct} \\
        --mask ${mask} \\
        --settings settings.json \\
        --record ${meta.arm}__${meta.patient}.json \\
        --out ${meta.patient}
    versions.py --process ${task.process} --code ${task.ext.code} SimpleITK numpy
    """

    stub:
    """
    mkdir ${meta.patient}
    echo '{"patient": "${meta.patient}"}' > ${meta.arm}__${meta.patient}.json
    touch versions.yml
    """
}
