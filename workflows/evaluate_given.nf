// The challenge's metrics for sCTs that somebody else made.

include { CHECK    } from '../modules/local/check'
include { EVALUATE } from '../modules/local/evaluate'
include { REPORT   } from '../modules/local/report'

workflow EVALUATE_GIVEN {
    take:
    patients // [meta, image, ct, mask, sct]

    main:
    sheet = file(params.input)
    CHECK(sheet, Presets.directory(projectDir, params), Presets.name(params), params.modality, Presets.overrides(params), false)
    settings = CHECK.out.settings.map { file -> Presets.read(file) }

    EVALUATE(
        patients.map { meta, image, ct, mask, sct ->
            [[patient: meta.patient, region: meta.region, trained: 'given', tested: 'given'], sct, [], image, ct, mask, []]
        },
        settings.map { chosen -> Presets.json(chosen, 'evaluation') }
    )
    versions = CHECK.out.versions.mix(EVALUATE.out.versions.first()).collectFile(name: 'versions.yml', sort: { file -> file.text })
    REPORT(
        sheet, CHECK.out.settings, [], [], [], [], [],
        EVALUATE.out.metrics.map { _meta, json -> json }.collect(sort: { it.name }),
        EVALUATE.out.slices.map { _meta, slices -> slices }.collect(sort: { it.name }),
        [],
        versions
    )
}
