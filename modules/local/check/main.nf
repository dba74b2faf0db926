// The first task of every run: settings resolved and recorded, the plan of test and folds drawn once for trial.
process CHECK {
    tag "${preset}"
    label 'process_single'
    container "${ContainerImage.of(projectDir, params.container_registry, 'check')}"
    cache 'deep' // by content: a touched sheet or preset starts nothing anew
    ext code: { CodeDigest.of(projectDir, 'check.py') }

    input:
    path sheet
    path presets
    val preset
    val modality
    val overrides
    val plan

    output:
    path 'settings.json', emit: settings
    path 'versions.yml', emit: versions

    script:
    def file = preset.endsWith('.toml') ? preset : "${presets}/${preset}.toml"
    """
    # code ${task.ext.code}
    check.py ${task.ext.args} \\
        --sheet ${sheet} \\
        --preset ${file} \\
        --modality ${modality} \\
        --set '${overrides}' \\
        ${plan ? '--plan' : '--no-plan'} \\
        --out settings.json
    versions.py --process ${task.process}
    """

    stub:
    def file = preset.endsWith('.toml') ? preset : "${presets}/${preset}.toml"
    """
    check.py --sheet ${sheet} --preset ${file} --modality ${modality} --set '${overrides}' ${plan ? '--plan' : '--no-plan'} --out settings.json
    touch versions.yml
    """
}
