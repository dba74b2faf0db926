import java.nio.file.Files
import java.nio.file.Path
import nextflow.Nextflow

/** --exclude: one list for all arms, "arm=FILE,arm=FILE", or a CSV with the columns patient, arm, reason (curate.py reads them). */
class Exclusions {

    /** The list that an arm's curation gets, or []. */
    static Object list(Map params, String arm) {
        Map<String, String> given = given(params)
        String path = given[arm] ?: given['']
        return path ? Nextflow.file(path) : []
    }

    /** Faults of the lists: files that are there, of the run's arms, with names of the sheet (`known`). */
    static List<String> faults(Map params, Set<String> known) {
        List<String> faults = []
        List<String> arms = params.registration?.toString()?.tokenize(',') ?: []
        given(params).each { arm, path ->
            if (arm && !(arm in arms)) {
                faults << "parameter --exclude: found a list for '${arm}', expected one of the arms of --registration, ${arms.join(', ')}".toString()
            }
            if (!InputCheck.plain(path)) {
                faults << "parameter --exclude: found '${path}', expected ${InputCheck.PLAIN}".toString()
                return
            }
            if (!Files.isRegularFile(Nextflow.file(path) as Path)) {
                faults << "parameter --exclude: found '${path}', expected a file of names that exists".toString()
                return
            }
            List<List<String>> rows = rows(Nextflow.file(path) as Path)
            List<String> header = rows ? rows[0]*.toLowerCase() : []
            boolean table = 'patient' in header
            List<List<String>> body = table ? rows.drop(1) : rows
            List<String> named = body.collect { cells -> cells[table ? header.indexOf('patient') : 0] ?: '' }.findAll()
            strange(faults, path, 'patients of the samplesheet', known ? named - known : [])
            if ('arm' in header) {
                strange(faults, path, "arms of --registration, ${arms.join(', ')}", body.collect { it[header.indexOf('arm')] ?: '' }.findAll() - arms)
            }
        }
        return faults
    }

    /** [arm: path], of one list for all arms ['': path]. */
    private static Map<String, String> given(Map params) {
        if (!params.exclude) {
            return [:]
        }
        List<String> parts = params.exclude.toString().tokenize(',')*.trim()
        if (!parts.every { it ==~ /\w+=.+/ }) {
            return ['': params.exclude.toString()]
        }
        return parts.collectEntries { part -> part.split('=', 2) as List }
    }

    /** The cells of every line, without remarks (after a #). */
    private static List<List<String>> rows(Path file) {
        return file.text.replace('\uFEFF', '').readLines()*.replaceFirst(/#.*/, '').findAll { it.trim() }.collect { line ->
            line.split(',', -1).collect { it.trim() }
        }
    }

    private static void strange(List<String> faults, String path, String expected, List<String> found) {
        if (found) {
            String more = found.size() > 3 ? " and ${found.size() - 3} more" : ''
            String name = (Nextflow.file(path) as Path).fileName
            faults << "parameter --exclude, ${name}: found ${found.take(3).collect { "'${it}'" }.join(', ')}${more}, expected ${expected}".toString()
        }
    }
}
