// One patient's plan on the CT of one pair, and its dose on every model's sCT of that pair.
process DOSE {
    tag "${meta.patient} on ${meta.tested}"
    label 'process_low'
    container "${ContainerImage.of(projectDir, params.container_registry, 'dose')}"
    ext code: { CodeDigest.of(projectDir, 'dose.py') }

    input:
    // members: of each sCT the directory of its networks' own sCTs, or [] for none; pair: CT, mask (which may be absent)
    tuple val(meta),
        path(scts, stageAs: 'sct/?/*'),
        path(members, stageAs: 'members/?/*'),
        path(pair, stageAs: 'pair/?/*'),
        path(target, stageAs: 'target/*'),
        path(organs, stageAs: 'organs/*')
    val beams
    val settings

    output:
    tuple val(meta), path('records/*.json'), emit: records
    tuple val(meta), path('records/*.npz'), emit: slices, optional: true // absent where the patient cannot be planned on
    tuple val(meta), path("${meta.tested}/${meta.patient}"), emit: doses, optional: true
    path 'versions.yml', emit: versions

    script:
    def (ct, mask) = [pair].flatten()
    // meta.trained in the order of the sCTs
    def each = [meta.trained, [scts].flatten(), [members ?: scts].flatten()].transpose().collect { trained, sct, own ->
        def name = "records/${[trained, meta.tested, meta.patient].join('__')}"
        "--sct ${sct} ${members ? "--members ${own} " : ''}--trained-on ${trained} " +
            "--checkpoint '${meta.checkpoint}' --slices ${name}.npz --out ${name}.json"
    }
    """
    # code ${task.ext.code}
    export OMP_NUM_THREADS=${task.cpus} ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=${task.cpus} NUMBA_CACHE_DIR=.numba NUMBA_NUM_THREADS=${task.cpus}
    cat > settings.json <<'JSON'
    ${settings}
    JSON
    dose.py ${task.ext.args} \\
        --ct ${ct} \\
        ${mask ? "--mask ${mask}" : ''} \\
        ${target ? "--target ${target}" : ''} \\
        ${organs ? "--structures ${organs}" : ''} \\
        --beams ${beams} \\
        --settings settings.json \\
        --patient ${meta.patient} \\
        --region '${meta.region}' \\
        --tested-on ${meta.tested} \\
        --record-failure \\
        --doses ${meta.tested}/${meta.patient} \\
        ${each.join(' \\\n        ')}
    versions.py --process ${task.process} --code ${task.ext.code} numpy pyRadPlan pymedphys SimpleITK
    """

    stub:
    """
    mkdir -p records ${meta.tested}/${meta.patient}
    touch versions.yml ${meta.trained.collect { trained -> "records/${trained}__${meta.tested}__${meta.patient}.{json,npz}" }.join(' ')}
    """
}
