// Synthetic CTs against CTs. With --segment TotalSegmentator labels both, each volume once, for Dice and HD95.

include { SEGMENT  } from '../modules/local/segment'
include { EVALUATE } from '../modules/local/evaluate'

workflow SCORE {
    take:
    predicted // [meta(patient, region, trained, tested, checkpoint, second), sct, uncertainty, image, ct, mask, baselines]; all but sct, ct may be []
    cts       // [ct]: those in `predicted`, which are known earlier, so that absent weights are found before a training
    settings  // value: the resolved settings

    main:
    weights = params.weights ? file(params.weights) : []
    volumes = params.segment ? cts.mix(predicted.map { row -> row[1] }).unique() : channel.empty()
    SEGMENT(volumes.map { volume -> [volume.toUriString(), volume] }, weights)

    rows = predicted.map { meta, sct, uncertainty, image, ct, mask, baselines -> [meta, sct, uncertainty, image, ct, mask, baselines, [], []] }
    labelled = predicted
        .map { row -> [row[1].toUriString(), row] }
        .combine(SEGMENT.out.labels, by: 0)
        .map { _key, row, labels -> [row[4].toUriString(), row, labels] }
        .combine(SEGMENT.out.labels, by: 0)
        .map { _key, row, of_sct, of_ct -> row + [of_sct, of_ct] }
    EVALUATE(params.segment ? labelled : rows, settings.map { chosen -> Presets.json(chosen, 'evaluation') })

    metrics = EVALUATE.out.metrics.map { _meta, json -> json }
    slices = EVALUATE.out.slices.filter { meta, _npz -> !meta.second }.map { _meta, npz -> npz }
    versions = SEGMENT.out.versions.first().mix(EVALUATE.out.versions.first())

    emit:
    metrics
    slices
    versions
}
