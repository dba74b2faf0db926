// Every DICOM series and contour object of the sheet opened, headers alone, before anything is computed from any of them.
process SCAN {
    tag "${scans.size()} DICOM inputs"
    label 'process_single'
    container "${ContainerImage.of(projectDir, params.container_registry, 'evaluate')}" // the smallest that reads DICOM
    ext code: { CodeDigest.of(projectDir, 'dicom.py') }

    input:
    tuple val(scans), path(files, stageAs: 'scans/?/*') // [patient, column, path in the sheet], and the files in the same order
    val modality

    output:
    path 'opened.txt', emit: opened

    script:
    def rows = [scans, [files].flatten()].transpose().collect { scan, file -> (scan + [file]).collect { cell -> "\"${cell}\"" }.join(',') }
    """
    # code ${task.ext.code}
    cat > scans.csv <<'CSV'
    patient,column,named,path
    ${rows.join('\n    ')}
    CSV
    dicom.py check scans.csv --modality ${modality}
    echo ${scans.size()} > opened.txt
    """

    stub:
    """
    touch opened.txt
    """
}
