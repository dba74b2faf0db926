import groovy.json.JsonSlurper
import java.nio.file.Files
import java.nio.file.Path
import nextflow.Nextflow

/** --exclude: one list for all arms, or "arm=FILE,arm=FILE". What stands in the lists, CHECK and curate.py read. */
class Exclusions {

    /** The list that an arm's curation gets, or []. */
    static Object list(Map params, String arm) {
        Map<String, String> given = lists(params)
        String path = given[arm] ?: given['']
        return path ? Nextflow.file(path) : []
    }

    /** Whether a quality record says that its pair could not be registered. */
    static boolean failed(Path record) {
        def told = new JsonSlurper().parseText(record.text)
        return told instanceof Map && told.failed
    }

    /** All lists, each once: CHECK reads them before anything is registered. */
    static List files(Map params) {
        return lists(params).values().unique().collect { path -> Nextflow.file(path) }
    }

    /** Faults of the parameter: files that are there, of the run's arms. */
    static List<String> faults(Map params) {
        List<String> faults = []
        List<String> arms = params.registration?.toString()?.tokenize(',') ?: []
        lists(params).each { arm, path ->
            if (arm && !(arm in arms)) {
                faults << "parameter --exclude: found a list for '${arm}', expected one of the arms of --registration, ${arms.join(', ')}".toString()
            }
            if (!Schema.plain(path)) {
                faults << "parameter --exclude: found '${path}', expected ${Schema.PLAIN}".toString()
            }
            else if (!Files.isRegularFile(Nextflow.file(path) as Path)) {
                faults << "parameter --exclude: found '${path}', expected a file of names that exists".toString()
            }
        }
        return faults
    }

    /** [arm: path], of one list for all arms ['': path]. */
    private static Map<String, String> lists(Map params) {
        if (!params.exclude) {
            return [:]
        }
        List<String> parts = params.exclude.toString().tokenize(',')*.trim()
        if (!parts.every { it ==~ /\w+=.+/ }) {
            return ['': params.exclude.toString()]
        }
        return parts.collectEntries { part -> part.split('=', 2) as List }
    }
}
