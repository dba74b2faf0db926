// New patients through a trained bundle; where the sheet has a CT, evaluation follows by itself.

include { CHECK   } from '../modules/local/check'
include { PREDICT } from '../modules/local/predict'
include { REPORT  } from '../modules/local/report'
include { SCORE   } from './score'

workflow PREDICT_NEW {
    take:
    patients // [meta, image, ct, mask, sct]; ct and mask may be []

    main:
    sheet = file(params.input)
    CHECK(sheet, Presets.directory(projectDir, params), Presets.name(params), params.modality, Presets.overrides(params), false)
    settings = CHECK.out.settings.map { file -> Presets.read(file) }

    bundle = file(params.model)
    batches = patients
        .toSortedList { a, b -> a[0].patient <=> b[0].patient }
        .flatMap { rows ->
            rows.collate(params.predict_batch as int).withIndex().collect { batch, number ->
                def metas = batch.collect { [patient: it[0].patient, region: it[0].region, masked: it[0].masked] }
                [[arm: bundle.name, kind: 'native', batch: number, place: bundle.name], bundle, metas, batch.collect { it[1] }, batch.findAll { it[0].masked }.collect { it[3] }]
            }
        }
    PREDICT(batches, settings.map { chosen -> Presets.json(chosen, 'inference') }, params.dicom)

    predicted = PREDICT.out.sct.flatMap { _meta, members, scts, uncertainties ->
        def sct = [scts].flatten().collectEntries { [it.baseName, it] }
        def uncertainty = [uncertainties].flatten().collectEntries { [it.baseName, it] }
        members.collect { member -> [member.patient, sct[member.patient], uncertainty[member.patient]] }
    }
    // a patient without a mask is scored inside the one that its prediction was made with
    made = PREDICT.out.masks.flatMap { _meta, masks -> [masks].flatten().collect { [it.baseName, it] } }
    SCORE(
        patients
            .filter { _meta, _image, ct, _mask, _sct -> ct }
            .map { meta, image, ct, mask, _sct -> [meta.patient, meta, image, ct, mask] }
            .join(predicted)
            .join(made, remainder: true)
            .filter { row -> row[1] }
            .map { _patient, meta, image, ct, mask, sct, uncertainty, own ->
                def about = [patient: meta.patient, region: meta.region, trained: bundle.name, tested: 'given']
                [about, sct, uncertainty, image, ct, mask ?: own ?: [], []]
            },
        patients.filter { _meta, _image, ct, _mask, _sct -> ct }.map { _meta, _image, ct, _mask, _sct -> ct },
        settings
    )
    versions = CHECK.out.versions
        .mix(PREDICT.out.versions.first(), SCORE.out.versions)
        .collectFile(name: 'versions.yml', sort: { file -> file.text })
    REPORT(
        sheet, CHECK.out.settings, [], [], [], [], [],
        SCORE.out.metrics.collect(sort: { it.name }).ifEmpty([]),
        SCORE.out.slices.collect(sort: { it.name }).ifEmpty([]),
        PREDICT.out.summary.map { _meta, json -> json }.collect(sort: { it.name }),
        versions
    )
}
