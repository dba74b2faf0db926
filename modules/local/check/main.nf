// The first task of every run: settings resolved and recorded, the plan of test and folds drawn once for trial.
process CHECK {
    tag "${preset ?: 'as bundled'}"
    label 'process_single'
    container "${ContainerImage.of(projectDir, params.container_registry, 'check')}"
    cache 'deep' // by content: a touched sheet or preset starts nothing anew
    ext code: { CodeDigest.of(projectDir, 'check.py') }

    input:
    path sheet, stageAs: 'sheet/*' // whatever it is called, no output takes its name
    path presets, stageAs: 'presets/*'
    val preset // a name; with `own` its file; '' for what the bundle says
    path own, stageAs: 'own/*'
    path bundle, stageAs: 'bundle/*' // bundle.json of predict mode, or []
    path lists, stageAs: 'lists/*'
    path exclusions, stageAs: 'exclusions/?/*'
    val modality
    val overrides
    val arms // of --registration, or ''
    tuple val(segment), val(weights), val(names) // --weights as it was given, or '', and what lies in it, a name a line
    val plan

    output:
    path 'settings.json', emit: settings
    path 'cohort.csv', emit: cohort // what the draw of the folds looks at
    path 'versions.yml', emit: versions

    script:
    def given = options(preset ? own ?: preset : '', bundle, plan, arms, segment, weights, lists, exclusions)
    """
    # code ${task.ext.code}
    ${weights ? "cat > names.txt <<'NAMES'\n${names}\nNAMES" : ''}
    check.py ${task.ext.args} \\
        --sheet ${sheet} \\
        --presets presets \\
        --modality ${modality} \\
        --set '${overrides}' \\
        ${given.join(' ')} \\
        --out settings.json \\
        --cohort-out cohort.csv
    versions.py --process ${task.process} --code ${task.ext.code}
    """

    stub:
    def given = options(preset ? own ?: preset : '', bundle, plan, arms, segment, '', lists, exclusions)
    """
    check.py --sheet ${sheet} --presets presets --modality ${modality} --set '${overrides}' --no-networks ${given.join(' ')} \\
        --out settings.json --cohort-out cohort.csv
    touch versions.yml
    """
}

// What check.py is asked beside the sheet and its modality; absent ones are '' or []. Quoted, as the engine sets no \ before a
// file's spaces and brackets but in the script itself.
def options(preset, bundle, plan, arms, segment, weights, lists, exclusions) {
    return [
        preset ? "--preset '${preset.toString()}'" : '',
        bundle ? "--bundle ${bundle}" : '',
        plan ? '--plan' : '--no-plan',
        arms ? "--registration ${arms}" : '',
        segment ? '--segment' : '',
        weights ? "--weights '${weights}' --weights-files names.txt" : '',
    ] + [lists].flatten().collect { list -> "--list '${list.toString()}'" } + [exclusions].flatten().collect { list -> "--exclude '${list.toString()}'" }
}
