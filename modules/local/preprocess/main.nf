// Registered pairs, a batch of an arm's patients, become training cases: memory-mapped int16 volumes inside the body mask.
process PREPROCESS {
    tag "${meta.arm} ${meta.batch} ${patients.size()} patients"
    label 'process_low'
    container "${ContainerImage.of(projectDir, params.container_registry, 'preprocess')}"
    ext code: { CodeDigest.of(projectDir, 'preprocess.py') }

    input:
    // the files in the order of the patients; flat names, for which staging makes no directory
    tuple val(meta), val(patients), path(images, stageAs: 'image?.mha'), path(cts, stageAs: 'ct?.mha'), path(masks, stageAs: 'mask?.mha')
    val settings

    output:
    // a directory of cases, with none of a pair that cannot be used, and one of records, which say of each whose it is or why not
    tuple val(meta), path("${name}"), path("${name}__records"), emit: cases
    path 'versions.yml', emit: versions

    script:
    name = "${meta.arm}__${meta.batch}"
    def calls = [patients, [images].flatten(), [cts].flatten(), [masks].flatten()].transpose().collect { patient, image, ct, mask ->
        "prepare ${patient.patient} '${patient.region}' '${patient.center}' ${patient.modality} ${image} ${ct} ${mask}"
    }
    """
    # code ${task.ext.code}
    export OMP_NUM_THREADS=${task.cpus} ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=${task.cpus}
    cat > settings.json <<'JSON'
    ${settings}
    JSON
    mkdir ${name} ${name}__records
    prepare() {
    preprocess.py ${task.ext.args} \\
        --patient "\$1" \\
        --region "\$2" \\
        --center "\$3" \\
        --modality "\$4" \\
        --image "\$5" \\
        --ct "\$6" \\
        --mask "\$7" \\
        --arm ${meta.arm} \\
        --settings settings.json \\
        --record "${name}__records/\$1.json" \\
        --out "${name}/\$1"
    }
    ${calls.join('\n    ')}
    versions.py --process ${task.process} --code ${task.ext.code} SimpleITK numpy
    """

    stub:
    name = "${meta.arm}__${meta.batch}"
    """
    mkdir ${name} ${name}__records
    for patient in ${patients*.patient.join(' ')}; do
        echo '{"patient": "'\$patient'"}' > ${name}__records/\$patient.json
    done
    touch versions.yml
    """
}
