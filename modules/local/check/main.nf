// The first task of every run: settings resolved and recorded, the plan of test and folds drawn once for trial.
process CHECK {
    tag "${preset ?: 'as bundled'}"
    label 'process_single'
    container "${ContainerImage.of(projectDir, params.container_registry, 'check')}"
    cache 'deep' // by content: a touched sheet or preset starts nothing anew
    ext code: { CodeDigest.of(projectDir, 'check.py') }

    input:
    path sheet
    path presets, stageAs: 'presets/*'
    val preset // a name; with `own` its file; '' for what the bundle says
    path own, stageAs: 'own/*'
    path bundle, stageAs: 'bundle/*' // bundle.json of predict mode, or []
    path lists, stageAs: 'lists/*'
    val modality
    val overrides
    val plan

    output:
    path 'settings.json', emit: settings
    path 'versions.yml', emit: versions

    script:
    def given = [
        preset ? "--preset ${own ?: preset}" : '', bundle ? "--bundle ${bundle}" : '', plan ? '--plan' : '--no-plan',
    ] + [lists].flatten().collect { "--list ${it}" }
    """
    # code ${task.ext.code}
    check.py ${task.ext.args} \\
        --sheet ${sheet} \\
        --presets presets \\
        --modality ${modality} \\
        --set '${overrides}' \\
        ${given.join(' ')} \\
        --out settings.json
    versions.py --process ${task.process}
    """

    stub:
    def given = [
        preset ? "--preset ${own ?: preset}" : '', bundle ? "--bundle ${bundle}" : '', plan ? '--plan' : '--no-plan',
    ] + [lists].flatten().collect { "--list ${it}" }
    """
    check.py --sheet ${sheet} --presets presets --modality ${modality} --set '${overrides}' ${given.join(' ')} --out settings.json
    touch versions.yml
    """
}
