// Every image of the sheet opened, its header and a sample of its voxels, before anything is computed from any of them.
process SCAN {
    tag "${scans.size()} inputs"
    label 'process_single'
    container "${ContainerImage.of(projectDir, params.container_registry, 'evaluate')}" // the smallest that reads DICOM
    ext code: { CodeDigest.of(projectDir, 'dicom.py') }

    input:
    tuple val(scans), path(files, stageAs: 'scans/?/*') // [patient, column, path in the sheet], and the files in the same order
    val modality
    path presets, stageAs: 'presets/*'
    val preset // as in CHECK: how many patients may be lost
    path own, stageAs: 'own/*'
    val overrides

    output:
    path 'opened.txt', emit: opened

    script:
    // toString: written into a string as it is, a file is its place as a shell must read it, with \ before spaces and brackets
    def rows = [scans, [files].flatten()].transpose().collect { scan, file ->
        (scan + [file.toString()]).collect { cell -> "\"${cell}\"" }.join(',')
    }
    """
    # code ${task.ext.code}
    cat > scans.csv <<'CSV'
    patient,column,named,path
    ${rows.join('\n    ')}
    CSV
    dicom.py check scans.csv \\
        --modality ${modality} \\
        --presets presets \\
        --preset '${own ? own.toString() : preset}' \\
        --set '${overrides}'
    echo ${scans.size()} > opened.txt
    """

    stub:
    """
    touch opened.txt
    """
}
