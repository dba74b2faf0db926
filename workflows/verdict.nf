// How every mode ends: synthetic CTs against CTs, and the report. With --segment TotalSegmentator labels both, each
// volume once, for Dice and HD95. With --dose a plan of each patient's CT is calculated anew on its sCTs.
// (One workflow for all modes, called from main.nf alone: engines before 26 cannot include one from several places.)

include { SEGMENT  } from '../modules/local/segment'
include { EVALUATE } from '../modules/local/evaluate'
include { DOSE     } from '../modules/local/dose'
include { TRUST    } from '../modules/local/bundle/trust'
include { REPORT   } from '../modules/local/report'

/** The files of one kind among [kind, file]. */
def of_kind(records, kind) {
    return records.filter { name, _file -> name == kind }.map { _kind, file -> file }
}

/** All files of a channel as one list, by name, so that a resumed run sees the same; [] where there is none. */
def sorted(files) {
    return files.collect(sort: { file -> file.name }).ifEmpty([])
}

workflow VERDICT {
    take:
    predicted // [meta(patient, region, trained, tested, checkpoint, second), sct, uncertainty, image, ct, mask, baselines]; all but sct, ct may be []
    known // [arm, bundle, summaries of its predictions]: of a study, whose bundles learn from its test
    cts // [ct]: those in `predicted`, which are known earlier, so that absent weights are found before a training
    settings_file // settings.json, a value
    records // [kind, file]: what the report shows besides, by the names of its inputs
    drawn // [patient, target, structures]: what is to be treated and spared, or []

    main:
    weights = params.weights ? file(params.weights) : []
    volumes = params.segment ? cts.mix(predicted.map { row -> row[1] }).unique() : channel.empty()
    SEGMENT(volumes.map { volume -> [volume.toUriString(), volume] }, weights)

    plain = predicted.map { row -> row + [[], []] }
    labelled = predicted
        .map { row -> [row[1].toUriString(), row] }
        .combine(SEGMENT.out.labels, by: 0)
        .map { _key, row, labels -> [row[4].toUriString(), row, labels] }
        .combine(SEGMENT.out.labels, by: 0)
        .map { _key, row, of_sct, of_ct -> row + [of_sct, of_ct] }
    EVALUATE(
        params.segment ? labelled : plain,
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
    rows = (params.segment ? labelled : plain).filter { row -> params.dose && !row[0].second }
    pairs = rows
        .map { row -> [[patient: row[0].patient, region: row[0].region, tested: row[0].tested], row] }
        .groupTuple()
        .map { key, members ->
            def ordered = members.sort { row -> row[0].trained }
            def meta = key + [trained: ordered.collect { row -> row[0].trained }, checkpoint: ordered[0][0].checkpoint ?: '']
            [key.patient, meta, ordered.collect { row -> row[1] }, ordered[0][4], ordered[0][5], ordered[0][8]]
        }
        .combine(drawn, by: 0)
        .map { _patient, meta, scts, ct, mask, labels, target, structures -> [meta, scts, ct, mask, target, structures ?: labels] }
    DOSE(pairs, params.dose ?: '', settings_file.map { file -> Presets.json(Presets.read(file), 'dose') })

    versions = of_kind(records, 'versions')
        .mix(TRUST.out.versions.first(), SEGMENT.out.versions.first(), DOSE.out.versions.first(), EVALUATE.out.versions.first())
        .collectFile(name: 'versions.yml', sort: { file -> file.text })
    REPORT(
        file(params.input),
        settings_file,
        sorted(of_kind(records, 'folds')),
        sorted(of_kind(records, 'excluded')),
        sorted(of_kind(records, 'qc')),
        sorted(of_kind(records, 'previews')),
        sorted(of_kind(records, 'logs')),
        sorted(EVALUATE.out.metrics.map { _meta, json -> json }),
        sorted(EVALUATE.out.slices.filter { meta, _npz -> !meta.second }.map { _meta, npz -> npz }),
        sorted(of_kind(records, 'predictions')),
        sorted(DOSE.out.records.mix(DOSE.out.slices).flatMap { _meta, files -> [files].flatten() }),
        versions
    )
}
