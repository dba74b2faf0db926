import groovy.json.JsonOutput
import groovy.json.JsonSlurperClassic
import java.nio.file.Path
import nextflow.Nextflow

/** How the pipeline's parameters reach the settings, and how a task gets the sections that it needs. */
class Presets {

    /** Parameters that override one number of the preset. */
    private static final Map<String, String> SHORTHAND = [
        folds: 'folds.folds',
        holdout: 'folds.holdout',
        region_groups: 'finetuning.groups',
        curate: 'curation.mode',
        max_excluded: 'curation.max_excluded',
        checkpoint: 'inference.checkpoint',
    ]

    /** The named presets' files, one by one: of a directory the engine would not see an edit. */
    static List<Path> files(Object projectDir) {
        return (projectDir as Path).resolve('conf/presets').toFile().listFiles().findAll { it.name.endsWith('.toml') }.sort()*.toPath()
    }

    /** The preset's name, or that of the user's own file; '' in predict mode where none is asked for: the bundle's numbers hold. */
    static String name(Map params) {
        Object file = own(params)
        return file ? file.name : params.preset ?: (params.mode == 'predict' ? '' : 'paper')
    }

    /** The user's own TOML file, or []. */
    static Object own(Map params) {
        return params.preset.toString().endsWith('.toml') ? Nextflow.file(params.preset) : []
    }

    /** The user's own validation lists, one a fold, or []. */
    static List<Path> lists(Map params) {
        return params.fold_lists ? Nextflow.files("${params.fold_lists}/*.txt").sort { it.name } : []
    }

    /** All overrides as check.py reads them: "section.key=value;section.key=value"; those of one section where it is named. */
    static String overrides(Map params, String section = '') {
        List<String> result = SHORTHAND.findAll { name, key -> params[name] != null }.collect { name, key -> "${key}=${params[name]}".toString() }
        if (params.strict) {
            result << 'curation.strict=true'
        }
        if (params.final) {
            result << 'folds.holdout=0'
        }
        if (params.seed != null) {
            result.addAll(['registration', 'folds', 'training'].collect { "${it}.seed=${params.seed}".toString() })
        }
        if (params.set) {
            result.addAll(params.set.toString().split(';')*.trim())
        }
        return result.findAll { given -> !section || given.startsWith("${section}.") }.join(';')
    }

    /** The settings as plain maps: those of JsonSlurper fill themselves on first reading, which operators do in parallel. */
    static Map read(Path settings) {
        return new JsonSlurperClassic().parseText(settings.text) as Map
    }

    /** The sections a step needs (all when none is named), on one line: what changes elsewhere does not re-run the step. */
    static String json(Map settings, String... sections) {
        Map chosen = sections ? settings.subMap(['preset', 'modality'] + (sections as List)) : settings
        return JsonOutput.toJson(chosen)
    }

    /** What a prediction's meta says where dose intervals are wanted: each network's own sCT; else nothing, so that it stays as it was. */
    static Map members(Map params, Map settings) {
        return params.dose && settings.dose.members ? [members: true] : [:]
    }

    /** What the draw of the folds and the list of the trainings need: of the fine-tuning the groups alone. */
    static String plan(Map settings) {
        return JsonOutput.toJson(settings.subMap(['preset', 'modality', 'folds']) + [finetuning: [groups: settings.finetuning.groups]])
    }

    /** A JSON file's content on one line. */
    static String line(Path file) {
        return JsonOutput.toJson(new JsonSlurperClassic().parseText(file.text))
    }

    /**
     * What the registration of one arm needs: nothing of the other arms, so that a new one re-runs none, and of other engines the dense
     * one's numbers alone, by which a rigid start is looked for whatever the arm.
     */
    static String arm(Map settings, String name) {
        return JsonOutput.toJson([modality: settings.modality, registration: registration(settings, name)])
    }

    /** What an arm's bundle records: how its networks were trained, and by which recipe their pairs were made. */
    static String bundle(Map settings, String name) {
        Map chosen = settings.subMap(['preset', 'modality', 'preprocessing', 'training', 'inference'])
        return JsonOutput.toJson(chosen + [registration: registration(settings, name)])
    }

    private static Map registration(Map settings, String name) {
        Map section = settings.registration as Map
        Map arm = (section.arms as Map)[name] as Map
        Set<String> engines = (section.arms as Map).values()*.engine as Set
        Set<String> own = arm.engine == 'none' ? [] : [arm.engine, 'dense']
        return section.findAll { key, value -> key != 'arms' && (key in own || !(key in engines)) } + [arms: [(name): arm]]
    }
}
