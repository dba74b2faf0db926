// The whole study, one arm a registration. Elements carry [meta, files...]; cohort-sized lists travel as CSV or JSON.

include { CHECK      } from '../modules/local/check'
include { REGISTER   } from '../modules/local/register'
include { CURATE     } from '../modules/local/curate'
include { PREPROCESS } from '../modules/local/preprocess'
include { FOLDS      } from '../modules/local/folds'
include { TRAIN      } from '../modules/local/train'
include { FINETUNE   } from '../modules/local/finetune'
include { BUNDLE     } from '../modules/local/bundle'
include { BASELINES  } from '../modules/local/baselines'
include { TEST       } from './test'

workflow STUDY {
    take:
    patients // [meta(patient, region, center, split, modality, masked), image, ct, mask, sct]
    aligned  // {patient: ct in its true place on the image}, for arms that take their CT from there

    main:
    arms = params.registration.tokenize(',')
    weights = params.weights ? file(params.weights) : []
    sheet = file(params.input)
    lists = Presets.lists(params)

    CHECK(
        sheet, Presets.files(projectDir), Presets.name(params), Presets.own(params),
        [], lists, Exclusions.files(params), params.modality, Presets.overrides(params), params.registration, Weights.asked(params), true
    )
    settings = CHECK.out.settings.map { file -> Presets.read(file) }

    // ---- register: every patient in every arm, by the arm's convention of which image is deformed
    names = patients.map { meta, _image, _ct, _mask, _sct -> meta.patient }.toList()
    REGISTER(
        patients
            .combine(names.map { all -> Batches.ofNames(all, params.register_batch as int) })
            .combine(channel.fromList(arms))
            .map { meta, image, ct, mask, _sct, of, arm ->
                def (number, size) = of[meta.patient]
                [groupKey([arm: arm, batch: number], size), [meta, image, ct, mask]]
            }
            .groupTuple()
            .combine(settings)
            .map { key, members, chosen ->
                def (metas, images, cts, masks) = members.sort { row -> row[0].patient }.transpose()
                def arm = key.groupTarget.arm
                def recipe = chosen.registration.arms[arm]
                def own = recipe.ct == 'ct_aligned' ? metas.collect { meta -> aligned[meta.patient] } : cts
                def about = [arm: arm, engine: recipe.engine, direction: recipe.direction, modality: metas[0].modality]
                [about, metas.collect { meta -> meta + about }, images, own, masks.findAll(), Presets.arm(chosen, arm)]
            },
        weights
    )
    // of each patient: [meta, image, ct, mask], and [meta, record]
    pairs = REGISTER.out.pairs.flatMap { _meta, metas, images, cts, masks ->
        Batches.apart(metas, [images, cts, masks]) { file -> file.parent.name }
    }
    qc = REGISTER.out.qc.flatMap { meta, metas, records ->
        Batches.apart(metas, [records]) { file -> file.baseName - "${meta.arm}__" }
    }

    // ---- preprocess: the registered pairs become training cases, a batch a task: to start one costs more than a pair does.
    // A batch waits for the records of all its patients, for a pair that could not be registered has nothing else
    batches = names.map { all -> Batches.ofNames(all, Batches.PREPROCESSED) }
    outcomes = qc.branch { _meta, record ->
        lost: Exclusions.failed(record)
        usable: true
    }
    // [[arm, batch], [[meta, image, ct, mask], ...]]
    filled = outcomes.usable
        .map { meta, _record -> [meta.arm, meta.patient] }
        .join(pairs.map { meta, image, ct, mask -> [meta.arm, meta.patient, [meta, image, ct, mask]] }, by: [0, 1])
        .mix(outcomes.lost.map { meta, _record -> [meta.arm, meta.patient, []] })
        .combine(batches)
        .map { arm, patient, pair, of -> [groupKey([arm: arm, batch: of[patient][0]], of[patient][1]), pair] }
        .groupTuple()
        .map { key, members -> [key.groupTarget, members.findAll().sort { pair -> pair[0].patient }] }
        .branch { _batch, members ->
            usable: members
            lost: true
        }
    PREPROCESS(
        filled.usable.map { batch, members ->
            def (metas, images, cts, masks) = members.transpose()
            [batch, metas.collect { meta -> meta.subMap('patient', 'region', 'center', 'modality') }, images, cts, masks]
        },
        settings.map { chosen -> Presets.json(chosen, 'preprocessing') }
    )
    // [arm, directories of cases, directories of records], complete when every batch is
    prepared = PREPROCESS.out.cases
        .map { batch, made, records -> [batch.arm, [made], [records]] }
        .mix(filled.lost.map { batch, _members -> [batch.arm, [], []] })
        .combine(batches)
        .map { arm, made, records, of -> [groupKey(arm, of.values()*.first().unique().size()), made, records] }
        .groupTuple()
        .map { key, made, records -> [key.groupTarget] + [made, records].collect { each -> each.flatten().sort { it.name } } }
    cases = prepared.map { arm, made, _records -> [arm, made] }

    // ---- curate: which pairs of an arm may be trained on (lists sorted, so that a resumed run sees the same input)
    CURATE(
        qc
            .combine(patients.count())
            .map { meta, record, count -> [groupKey(meta.arm, count as int), record] }
            .groupTuple()
            .map { key, found -> [key.groupTarget, found.sort { it.name }] }
            .join(prepared)
            .map { arm, found, _made, records -> [arm, found, records, Exclusions.list(params, arm)] },
        settings.map { chosen -> Presets.json(chosen, 'curation') }
    )

    // ---- folds: one draw for all arms, the exclusions taken out of each arm's own lists
    FOLDS(
        CURATE.out.lists.map { arm, _kept, excluded -> [arm, excluded] },
        CHECK.out.cohort,
        lists,
        settings.map { chosen -> Presets.plan(chosen) }
    )
    // the plan goes to trainings by its content: one drawn again, and the same, is no reason to train again
    plans = FOLDS.out.plan.map { arm, plan -> [arm, Presets.line(plan)] }
    runs = FOLDS.out.runs.splitCsv(header: true).map { arm, run -> [arm, run.fold as int, run] } // run: fold, group, regions
    // [arm, directories of cases, plan]; who is left out has a case too, and stands in no list of the plan
    training = cases.join(plans)

    // ---- train: the global model of each fold, then the region groups from its best checkpoint
    if (Checkpoints.mount()) {
        file(Checkpoints.mount(), glob: false).mkdirs() // containers mount it, so it must be there, and this user's
    }
    TRAIN(
        training
            .combine(runs.filter { _arm, _fold, run -> run.group == 'global' }, by: 0)
            .map { arm, dirs, plan, fold, _run -> [[arm: arm, fold: fold], dirs, plan] },
        settings.map { chosen -> Presets.json(chosen, 'training') },
        weights
    )
    FINETUNE(
        TRAIN.out.model
            .map { meta, model -> [meta.arm, meta.fold, meta, model] }
            .combine(runs.filter { _arm, _fold, run -> run.group != 'global' }, by: [0, 1])
            .combine(training, by: 0)
            .map { _arm, _fold, meta, model, run, dirs, plan ->
                [meta + [group: run.group, regions: run.regions.tokenize('+')], model, dirs, plan]
            },
        settings.map { chosen -> Presets.json(chosen, 'training', 'finetuning') },
        weights
    )

    // ---- bundle: all models of an arm, complete when every one of its runs is
    expected = FOLDS.out.runs.map { arm, table -> [arm, groupKey(arm, table.splitCsv(header: true).size())] }
    BUNDLE(
        TRAIN.out.model.mix(FINETUNE.out.model)
            .map { meta, model -> [meta.arm, model] }
            .combine(expected, by: 0)
            .map { _arm, model, key -> [key, model] }
            .groupTuple()
            .map { key, models -> [key.toString(), models.sort { it.name }] }
            .join(FOLDS.out.plan)
            .join(CURATE.out.recipes)
            .combine(settings)
            .map { arm, models, plan, recipes, chosen -> [arm, models, plan, recipes, Presets.bundle(chosen, arm)] }
    )
    bundles = BUNDLE.out.bundle.map { arm, files -> [arm, [files].flatten().first().parent] }
    BASELINES(cases.join(FOLDS.out.plan))

    // ---- test: every bundle on every arm's held-out pairs
    TEST(bundles, BASELINES.out.baselines, FOLDS.out.lists, patients, pairs, settings)

    // ---- for the verdict
    predicted = TEST.out.scored
    known = TEST.out.known
    cts = TEST.out.cts
    settings_file = CHECK.out.settings
    records = FOLDS.out.plan.map { _arm, plan -> plan }.mix(
        CURATE.out.lists.flatMap { _arm, kept, excluded -> [kept, excluded] },
        qc.mix(TRAIN.out.record, FINETUNE.out.record).map { _meta, record -> record },
        REGISTER.out.previews.flatMap { _meta, files -> [files].flatten() },
        bundles.map { _arm, bundle -> bundle.resolve('bundle.json') },
        TEST.out.summaries
    )
    versions = CHECK.out.versions
        .mix(REGISTER.out.versions.first(), CURATE.out.versions.first(), PREPROCESS.out.versions.first(), FOLDS.out.versions.first())
        .mix(TRAIN.out.versions.first(), FINETUNE.out.versions.first(), BUNDLE.out.versions.first(), BASELINES.out.versions.first())
        .mix(TEST.out.versions)

    emit:
    predicted
    known
    cts
    settings_file
    records
    versions
}
