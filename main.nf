#!/usr/bin/env nextflow
/*
 * synthct: synthetic CT from MR or cone-beam CT.
 *
 *   train      register -> preprocess -> curate -> folds -> train -> fine-tune -> bundle -> predict -> evaluate -> report
 *   predict    new patients through a trained bundle (-> evaluate, where the sheet has a CT) -> report
 *   evaluate   sCTs that somebody else made -> metrics -> report
 */

include { SCAN           } from './modules/local/scan'
include { STUDY          } from './workflows/study'
include { PREDICT_NEW    } from './workflows/predict_new'
include { EVALUATE_GIVEN } from './workflows/evaluate_given'
include { VERDICT        } from './workflows/verdict'

workflow {
    main:
    if (params.help || params.version) {
        println(params.help ? Usage.text(workflow.projectDir) : "synthct ${workflow.manifest.version}")
        return
    }

    // every fault of the parameters and of the sheet at once, before any task
    def sheet = StudyCheck.run(params, projectDir)
    def faults = sheet.faults +
        Schema.places('launch directory': workflow.launchDir, 'work directory': workflow.workDir) +
        ClusterCheck.faults(params, workflow.profile, ClusterCheck.tasks(workflow.workDir), Checkpoints.directory(), projectDir.toString())
    if (faults) {
        error(StudyCheck.text(faults))
    }
    (sheet.warnings + StudyCheck.environment(projectDir, workflow.containerEngine, workflow.profile)).each { line -> log.warn(line) }
    def busy = OutdirLock.take(params.outdir)
    if (busy) {
        error(busy)
    }

    // every image is opened first, where it lies on a file system
    scans = Scans.of(sheet.rows)
    SCAN(
        channel.fromList(scans ? [[scans.collect { scan -> scan.take(2) + [scan[2].toString()] }, scans.collect { scan -> scan[2] }]] : []),
        sheet.modality, Presets.files(projectDir), Presets.name(params), Presets.own(params), Presets.overrides(params, 'curation')
    )

    // one element a patient: [meta(patient, region, center, split, modality, masked), image, ct, mask, sct]; absent files are []
    patients = channel.fromList(sheet.rows).map { row ->
        def meta = [
            patient: row.patient, region: row.region ?: '', center: row.center ?: '', split: row.split ?: '',
            modality: sheet.modality, masked: row.mask as boolean,
        ]
        [meta, row.image, row.ct ?: [], row.mask ?: [], row.sct ?: []]
    }
    if (scans) {
        patients = patients.combine(SCAN.out.opened).map { row -> row.take(5) }
    }

    if (params.mode == 'train') {
        STUDY(patients, sheet.rows.collectEntries { row -> [row.patient, row.ct_aligned] })
        made = STUDY.out
    }
    else if (params.mode == 'predict') {
        PREDICT_NEW(patients, sheet.modality)
        made = PREDICT_NEW.out
    }
    else {
        EVALUATE_GIVEN(patients)
        made = EVALUATE_GIVEN.out
    }
    // [patient, what is to be treated, organs]; [] where the sheet has none
    drawn = channel.fromList(sheet.rows).map { row -> [row.patient, row.target ?: [], row.structures ?: []] }
    VERDICT(made.predicted, made.known, made.cts, made.settings_file, made.records, made.versions, drawn)

    workflow.onComplete = {
        def verdict = file("${params.outdir}/evaluation/verdict.txt")
        def left = workflow.success && !workflow.stubRun ? Leftovers.text(params.outdir) : null
        if (left) {
            log.warn(left)
        }
        if (workflow.success && workflow.stats.ignoredCount) {
            def missing = "what needs them is missing from ${params.outdir}; mend the cause and run the same command with -resume"
            println("synthct: ${workflow.stats.ignoredCount} trainings failed (the notes above name them), and ${missing}")
        }
        else if (workflow.success) {
            println(!workflow.stubRun && verdict.exists() ? "\n${verdict.text}" : '')
            println("synthct: done in ${workflow.duration}; the report is ${params.outdir}/report/report.html")
        }
        else {
            println('synthct: stopped; mend the cause above and run the same command with -resume')
        }
    }
}
