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
        checkpoint: 'inference.checkpoint',
    ]

    /** Where the preset lies: conf/presets, or the place of a TOML file of the user's own. */
    static Path directory(Object projectDir, Map params) {
        return Nextflow.file(own(params) ? params.preset : "${projectDir}/conf/presets") as Path
    }

    /** The preset's name, or the staged file's. */
    static String name(Map params) {
        return own(params) ? Nextflow.file(params.preset).fileName.toString() : params.preset
    }

    /** All overrides as check.py reads them: "section.key=value;section.key=value". */
    static String overrides(Map params) {
        List<String> result = SHORTHAND.findAll { name, key -> params[name] != null }.collect { name, key -> "${key}=${params[name]}".toString() }
        if (params.final) {
            result << 'folds.holdout=0'
        }
        if (params.seed != null) {
            result.addAll(['registration', 'folds', 'training'].collect { "${it}.seed=${params.seed}".toString() })
        }
        if (params.set) {
            result.addAll(params.set.toString().split(';')*.trim())
        }
        return result.join(';')
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

    private static boolean own(Map params) {
        return params.preset.toString().endsWith('.toml')
    }
}
