// TotalSegmentator's label map of a CT or synthetic CT, which Dice and HD95 compare (--segment).
process SEGMENT {
    tag "${key.tokenize('/').takeRight(3).findAll { part -> !(part ==~ /[0-9a-f]{30}/) }.join('/')}" // without the task's directory
    label 'process_medium'
    label 'process_gpu'
    maxForks params.gpu_forks
    container "${ContainerImage.of(projectDir, params.container_registry, 'segment')}"
    ext code: { CodeDigest.of(projectDir, 'segment.py') },
        gpu: true

    input:
    tuple val(key), path(volume)
    path weights // of TotalSegmentator, a directory as it keeps them itself, or []

    output:
    tuple val(key), path('labels.mha'), emit: labels
    path 'segmentation.json', emit: record
    path 'versions.yml', emit: versions

    script:
    """
    # code ${task.ext.code}
    export OMP_NUM_THREADS=${task.cpus} ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=${task.cpus}
    ${weights ? "export TOTALSEG_WEIGHTS_PATH=${weights}" : ''}
    segment.py ${task.ext.args} \\
        --image ${volume} \\
        --record segmentation.json \\
        --out labels.mha
    versions.py --process ${task.process} --code ${task.ext.code} totalsegmentator torch SimpleITK
    """

    stub:
    """
    touch labels.mha segmentation.json versions.yml
    """
}
