// The model of a region group, from the best-validation checkpoint of its fold's global model.
process FINETUNE {
    tag "${meta.arm} fold ${meta.fold} ${meta.group}"
    label 'process_high'
    label 'process_gpu'
    maxForks params.gpu_forks
    container "${ContainerImage.of(projectDir, params.container_registry, 'finetune')}"
    ext code: { CodeDigest.of(projectDir, 'finetune.py') },
        gpu: true,
        mount: { Checkpoints.mount() } // what a container must show besides the task's files

    input:
    tuple val(meta), path(init), path(cases, stageAs: 'cases/*'), val(plan) // folds.json on one line
    val settings
    path weights // of the perceptual loss's encoders, a directory, or []

    output:
    tuple val(meta), path("${name}"), emit: model
    tuple val(meta), path("${name}.csv"), emit: log
    tuple val(meta), path("${name}.json"), emit: record
    path 'versions.yml', emit: versions

    script:
    name = "${meta.arm}__fold${meta.fold}__${meta.group}"
    """
    # code ${task.ext.code}
    export OMP_NUM_THREADS=${task.cpus}
    ${weights ? "export SYNTHCT_WEIGHTS=${weights} TOTALSEG_WEIGHTS_PATH=${weights}" : ''}
    cat > settings.json <<'JSON'
    ${settings}
    JSON
    cat > folds.json <<'JSON'
    ${plan}
    JSON
    finetune.py ${task.ext.args} \\
        --init ${init}/best.safetensors \\
        --regions ${meta.regions.join(',')} \\
        --cases cases/* \\
        --folds folds.json \\
        --fold ${meta.fold} \\
        --arm ${meta.arm} \\
        --settings settings.json \\
        --checkpoint-dir '${Checkpoints.directory()}/${name}' \\
        --out ${name}
    cp ${name}/log.csv ${name}.csv
    cp ${name}/training.json ${name}.json
    versions.py --process ${task.process} --code ${task.ext.code} torch segmentation-models-pytorch numpy
    """

    stub:
    name = "${meta.arm}__fold${meta.fold}__${meta.group}"
    """
    mkdir ${name}
    touch ${name}/{best,final}.safetensors ${name}.{csv,json} versions.yml
    """
}
