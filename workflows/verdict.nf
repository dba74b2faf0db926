// How every mode ends: synthetic CTs against CTs, and the report. With --segment TotalSegmentator labels both, each
// volume once, for Dice and HD95. With --dose a plan of each patient's CT is calculated anew on its sCTs.
// (One workflow for all modes, called from main.nf alone: engines before 26 cannot include one from several places.)

include { SEGMENT  } from '../modules/local/segment'
include { EVALUATE } from '../modules/local/evaluate'
include { DOSE     } from '../modules/local/dose'
include { TRUST    } from '../modules/local/trust'
include { REPORT   } from '../modules/local/report'

workflow VERDICT {
    take:
    // [meta(patient, region, trained, tested, checkpoint, second), [sct, uncertainty, members' sCTs], [image, ct, mask], baselines]
    predicted
    known // [arm, bundle, summaries of its predictions]: of a study, whose bundles learn from its test
    cts // [ct]: those in `predicted`, which are known earlier, so that absent weights are found before a training
    settings_file // settings.json, a value
    records // files that say themselves what and whose they are
    versions // versions.yml of the steps
    drawn // [patient, target, structures]: what is to be treated and spared, or []

    main:
    weights = params.weights ? file(params.weights) : []
    volumes = params.segment ? cts.mix(predicted.map { _meta, prediction, _pair, _baselines -> prediction[0] }).unique() : channel.empty()
    SEGMENT(volumes.map { volume -> [volume.toUriString(), volume] }, weights)

    labelled = predicted
        .map { row -> [row[1][0].toUriString(), row] }
        .combine(SEGMENT.out.labels, by: 0)
        .map { _key, row, labels -> [row[2][1].toUriString(), row, labels] }
        .combine(SEGMENT.out.labels, by: 0)
        .map { _key, row, of_sct, of_ct -> row + [[of_sct, of_ct]] }
    rows = params.segment ? labelled : predicted.map { row -> row + [[]] } // [..., [labels of the sCT, of the CT]]
    EVALUATE(
        rows.map { meta, prediction, pair, baselines, labels -> [meta, prediction.take(2), pair, baselines, labels] },
        settings_file.map { file -> Presets.json(Presets.read(file), 'evaluation') }
    )

    // ---- trust: the errors of each arm's own test join what predict said of the same patients
    own = EVALUATE.out.metrics
        .filter { meta, _json -> meta.trained == meta.tested && !meta.second }
        .map { meta, json -> [meta.trained, json] }
        .groupTuple()
        .map { arm, jsons -> [arm, jsons.sort { it.name }] }
    TRUST(known.join(own))

    // ---- dose: all models' sCTs of a patient and pair meet one plan; organs are the sheet's, else TotalSegmentator's
    plans = rows
        .filter { row -> params.dose && !row[0].second }
        .map { meta, prediction, pair, _baselines, labels ->
            [[patient: meta.patient, region: meta.region, tested: meta.tested], [meta, prediction[0], prediction.drop(2), pair.drop(1), labels.drop(1)]]
        }
        .groupTuple()
        .map { key, members ->
            def ordered = members.sort { one -> one[0].trained }
            def meta = key + [trained: ordered.collect { one -> one[0].trained }, checkpoint: ordered[0][0].checkpoint ?: '']
            [key.patient, meta, ordered.collect { one -> one[1] }, ordered.collectMany { one -> one[2] }, ordered[0][3], ordered[0][4]]
        }
        .combine(drawn, by: 0)
        .map { _patient, meta, scts, members, planned, labels, target, structures ->
            [meta, scts, members, planned, target, structures ?: labels]
        }
    DOSE(plans, params.dose ?: '', settings_file.map { file -> Presets.json(Presets.read(file), 'dose') })

    // sorted, so that a resumed run sees the same; files of one name by the task that made them
    shown = records
        .mix(EVALUATE.out.metrics.mix(EVALUATE.out.slices.filter { meta, _npz -> !meta.second }).map { _meta, file -> file })
        .mix(SEGMENT.out.record.first()) // all tell the same network
        .mix(DOSE.out.records.mix(DOSE.out.slices).flatMap { _meta, files -> [files].flatten() })
        .collect(sort: { file -> "${file.name} ${file.toUriString()}".toString() })
        .ifEmpty([])
    steps = versions
        .mix(TRUST.out.versions.first(), SEGMENT.out.versions.first(), DOSE.out.versions.first(), EVALUATE.out.versions.first())
        .collectFile(name: 'versions.yml', sort: { file -> file.text })
    REPORT(file(params.input), settings_file, shown, steps, Provenance.of(params, workflow), projectDir.resolve(workflow.manifest.mainScript))
}
