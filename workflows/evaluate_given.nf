// The challenge's metrics for sCTs that somebody else made.

include { CHECK   } from '../modules/local/check'
include { REPORT  } from '../modules/local/report'
include { SCORE   } from './score'

workflow EVALUATE_GIVEN {
    take:
    patients // [meta, image, ct, mask, sct]

    main:
    sheet = file(params.input)
    CHECK(sheet, Presets.directory(projectDir, params), Presets.name(params), params.modality, Presets.overrides(params), false)
    settings = CHECK.out.settings.map { file -> Presets.read(file) }

    SCORE(
        patients.map { meta, image, ct, mask, sct ->
            [[patient: meta.patient, region: meta.region, trained: 'given', tested: 'given'], sct, [], image, ct, mask, []]
        },
        patients.map { _meta, _image, ct, _mask, _sct -> ct },
        settings
    )
    versions = CHECK.out.versions.mix(SCORE.out.versions).collectFile(name: 'versions.yml', sort: { file -> file.text })
    REPORT(
        sheet, CHECK.out.settings, [], [], [], [], [],
        SCORE.out.metrics.collect(sort: { it.name }),
        SCORE.out.slices.collect(sort: { it.name }),
        [],
        versions
    )
}
