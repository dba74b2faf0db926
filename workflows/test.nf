// The train × test matrix: each arm's bundle predicts the held-out patients, each prediction meets each arm's pair.

include { PREDICT } from '../modules/local/predict'

workflow TEST {
    take:
    bundles   // [arm, bundle directory]
    baselines // [arm, baselines.json]
    lists     // [arm, directory of the plan's plain lists of names]
    patients  // [meta, image, ct, mask, sct] as in the sheet
    pairs     // [meta(arm, direction), image, ct, mask] after registration
    settings  // value: the resolved settings

    main:
    // the held-out names are the same for every arm; the pairs of each arm that belong to them
    held = lists.first().flatMap { _arm, names -> names.resolve('test.txt').readLines() }
    tested = pairs
        .map { meta, image, ct, mask -> [meta.patient, meta, image, ct, mask] }
        .combine(held, by: 0)
        .map { _patient, meta, image, ct, mask -> [meta, image, ct, mask] }

    // inputs of two kinds: the sheet's own image, and for arms that deform the image, the deformed one
    native_inputs = patients
        .map { meta, image, _ct, mask, _sct -> [meta.patient, meta, image, mask] }
        .combine(held, by: 0)
        .map { _patient, meta, image, mask -> ['native', meta, image, mask] }
    warped_inputs = tested
        .filter { meta, _image, _ct, _mask -> meta.direction == 'image_to_ct' }
        .map { meta, image, _ct, mask -> [meta.arm, meta + [masked: true], image, mask] }

    // sorted before they are cut into batches, so that a resumed run cuts the same ones
    batches = native_inputs.mix(warped_inputs)
        .toSortedList { a, b -> "${a[0]} ${a[1].patient}" <=> "${b[0]} ${b[1].patient}" }
        .flatMap { inputs ->
            inputs.groupBy { it[0] }.collectMany { kind, members ->
                Batches.cut(members*.tail(), params.predict_batch as int).collect { number, metas, images, masks ->
                    [[kind: kind, batch: number], metas, images, masks]
                }
            }
        }
    // with "best,final" each of the two predicts; what only one can stand for (pictures, uncertainty, the report's numbers) is the first named's
    checkpoints = settings.flatMap { chosen ->
        chosen.inference.checkpoint.tokenize(',')*.trim().withIndex().collect { checkpoint, number ->
            [checkpoint: checkpoint, second: number > 0] + (number ? [:] : Presets.members(params, chosen))
        }
    }
    PREDICT(
        bundles.combine(batches).combine(checkpoints).map { arm, bundle, meta, metas, images, masks, asked ->
            def place = (meta.kind == 'native' ? arm : "${arm}/on_${meta.kind}") + (asked.second ? "/${asked.checkpoint}" : '')
            [meta + [arm: arm, place: place, modality: params.modality] + asked, bundle, metas, images, masks]
        },
        settings.map { chosen -> Presets.json(chosen, 'inference') },
        params.dicom,
        settings.map { chosen -> Weights.ofPrediction(params, chosen) }
    )

    // [kind, patient, made (trained, checkpoint), [sCT, uncertainty, members]] meets [kind, patient, meta, image, ct, mask] of every tested arm
    predicted = PREDICT.out.sct.flatMap { meta, metas, scts, uncertainties, members ->
        def made = [trained: meta.arm, checkpoint: meta.checkpoint, second: meta.second]
        Batches.results(metas, scts, uncertainties, members).collect { patient, files -> [meta.kind, patient, made, files] }
    }
    truth = tested.map { meta, image, ct, mask ->
        [meta.direction == 'image_to_ct' ? meta.arm : 'native', meta.patient, meta, image, ct, mask]
    }
    scored = predicted
        .combine(truth, by: [0, 1])
        .map { _kind, _patient, made, files, meta, image, ct, mask ->
            [made.trained, made + [patient: meta.patient, region: meta.region, tested: meta.arm], files, [image, ct, mask]]
        }
        .combine(baselines, by: 0)
        .map { _trained, meta, prediction, pair, baseline -> [meta, prediction, pair, baseline] }
    cts = tested.map { _meta, _image, ct, _mask -> ct }
    summaries = PREDICT.out.summary.filter { meta, _json -> !meta.second }.map { _meta, json -> json }
    // of each bundle: what it said of the held-out patients' own images, by which new ones will be judged
    known = bundles.join(
        PREDICT.out.summary
            .filter { meta, _json -> meta.kind == 'native' && !meta.second }
            .map { meta, json -> [meta.arm, json] }
            .groupTuple()
            .map { arm, jsons -> [arm, jsons.sort { it.name }] }
    )
    versions = PREDICT.out.versions.first()

    emit:
    scored
    cts
    summaries
    known // [arm, bundle, summaries]
    versions
}
