// New patients through a trained bundle; where the sheet has a CT, evaluation follows by itself.

include { CHECK   } from '../modules/local/check'
include { PREDICT } from '../modules/local/predict'

workflow PREDICT_NEW {
    take:
    patients // [meta, image, ct, mask, sct]; ct and mask may be []
    modality // of the images and of the bundle

    main:
    sheet = file(params.input)
    bundle = file(params.model)
    arm = Bundles.name(bundle)
    CHECK(
        sheet, Presets.files(projectDir), Presets.name(params), Presets.own(params),
        bundle.resolve('bundle.json'), [], [], modality, Presets.overrides(params), '', Weights.asked(params), false
    )
    settings = CHECK.out.settings.map { file -> Presets.read(file) }

    batches = patients
        .toSortedList { a, b -> a[0].patient <=> b[0].patient }
        .flatMap { rows ->
            Batches.cut(rows.collect { [it[0], it[1], it[3]] }, params.predict_batch as int).collect { number, metas, images, masks ->
                def meta = [arm: arm, kind: 'native', batch: number, place: arm, modality: modality, digest: Bundles.digest(bundle), pages: true]
                [meta, bundle, metas, images, masks]
            }
        }
    PREDICT(
        batches.combine(settings).map { meta, model, metas, images, masks, chosen ->
            [meta + Presets.members(params, chosen), model, metas, images, masks]
        },
        settings.map { chosen -> Presets.json(chosen, 'inference') },
        params.dicom,
        settings.map { chosen -> Weights.ofPrediction(params, chosen) }
    )

    made = PREDICT.out.sct.flatMap { _meta, metas, scts, uncertainties, members -> Batches.results(metas, scts, uncertainties, members) }
    // a patient without a mask is scored inside the one that its prediction was made with
    own_masks = PREDICT.out.masks.flatMap { _meta, masks -> [masks].flatten().collect { [it.baseName, it] } }
    with_ct = patients.filter { _meta, _image, ct, _mask, _sct -> ct }
    predicted = with_ct
        .map { meta, image, ct, mask, _sct -> [meta.patient, meta, image, ct, mask] }
        .join(made)
        .join(own_masks, remainder: true)
        .filter { row -> row[1] }
        .map { _patient, meta, image, ct, mask, files, own ->
            def about = [patient: meta.patient, region: meta.region, trained: arm, tested: 'given', resample: true]
            [about, files, [image, ct, mask ?: own].findAll(), []]
        }
    cts = with_ct.map { _meta, _image, ct, _mask, _sct -> ct }
    known = channel.empty()
    settings_file = CHECK.out.settings
    records = PREDICT.out.summary.map { _meta, json -> json }.mix(channel.of(bundle.resolve('bundle.json')))
    versions = CHECK.out.versions.mix(PREDICT.out.versions.first())

    emit:
    predicted
    known
    cts
    settings_file
    records
    versions
}
