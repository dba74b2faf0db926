// sCTs that somebody else made: they go to the verdict as they are.

include { CHECK } from '../modules/local/check'

workflow EVALUATE_GIVEN {
    take:
    patients // [meta, image, ct, mask, sct]

    main:
    CHECK(
        file(params.input), Presets.files(projectDir), Presets.name(params), Presets.own(params),
        [], [], [], params.modality, Presets.overrides(params), '', Weights.asked(params), false
    )
    predicted = patients.map { meta, image, ct, mask, sct ->
        [[patient: meta.patient, region: meta.region, trained: 'given', tested: 'given'], [sct], [image, ct] + (mask ? [mask] : []), []]
    }
    cts = patients.map { _meta, _image, ct, _mask, _sct -> ct }
    known = channel.empty()
    settings_file = CHECK.out.settings
    records = channel.empty()
    versions = CHECK.out.versions

    emit:
    predicted
    known
    cts
    settings_file
    records
    versions
}
