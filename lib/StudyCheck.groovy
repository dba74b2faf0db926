import groovy.json.JsonSlurper
import java.nio.file.FileSystems
import java.nio.file.Files
import java.nio.file.Path
import nextflow.Nextflow

/**
 * What only this pipeline knows of its parameters and samplesheet, and must know before any task: what decides which
 * tasks there are, and files that the head node alone sees. The rest of the rules is CHECK's, the first task.
 */
class StudyCheck {

    /** Columns that a mode cannot do without, beyond what the schema asks of every sheet. */
    private static final Map<String, List<String>> NEEDED = [
        train: ['region', 'ct'],
        predict: [],
        evaluate: ['ct', 'sct'],
    ]

    /** All faults and warnings of a run, the sheet's rows, and the modality: the one given, in predict mode else the bundle's. */
    static Map run(Map params, Path projectDir) {
        String mode = params.mode.toString()
        Map sheet = [faults: [], rows: []]
        if (params.input && Schema.plain(params.input)) {
            sheet = Schema.sheet(params.input, projectDir.resolve('assets/schema_input.json'), mode, NEEDED[mode] ?: [])
        }
        Map bundle = mode == 'predict' ? model(params) : [faults: []]
        def modality = params.modality ?: bundle.modality
        List<String> faults = Schema.params(params, projectDir.resolve('nextflow_schema.json')) + sheet.faults + bundle.faults
        faults += files(params) + Exclusions.faults(params) + columns(params, sheet.rows) + doubled(sheet.rows)
        if (!modality && !bundle.faults) {
            faults << 'parameter --modality: missing, expected one of mr, cbct'
        }
        return [faults: faults, warnings: mode == 'train' ? copies(sheet.rows) : [], rows: sheet.rows, modality: modality]
    }

    /** A line where tasks are to run on this checkout's environment, and it has none. */
    static List<String> environment(Path projectDir, Object engine, String profiles) {
        boolean elsewhere = engine || profiles.tokenize(',').any { profile -> profile in ['awsbatch', 'k8s', 'stub'] }
        if (elsewhere || Files.exists(projectDir.resolve('.venv/bin/python'))) {
            return []
        }
        return ["no .venv in ${projectDir}: tasks take the Python on PATH; `make setup` makes one, -profile docker needs none".toString()]
    }

    static String text(List<String> faults) {
        return "${faults.size()} fault${faults.size() > 1 ? 's' : ''} in the input, nothing was started:\n  ${faults.join('\n  ')}"
    }

    /** Faults of the bundle of predict mode, and its modality: [faults: List<String>, modality: String]. */
    private static Map model(Map params) {
        if (!params.model) {
            return [faults: ['parameter --model: missing, --mode predict needs a model bundle directory']]
        }
        if (!Schema.plain(params.model)) {
            return [faults: [], modality: params.modality]
        }
        Path about = (Nextflow.file(params.model) as Path).resolve('bundle.json')
        if (!Files.exists(about)) {
            return [faults: ["parameter --model: found '${params.model}', expected a model bundle (a directory with bundle.json)".toString()]]
        }
        def found = null
        try {
            found = new JsonSlurper().parseText(about.text).modality
        }
        catch (Exception _fault) {
            // said below: whatever it holds, it names no modality
        }
        if (!(found in ['mr', 'cbct'])) {
            return [faults: ["parameter --model: found '${params.model}', whose bundle.json names no modality, mr or cbct".toString()]]
        }
        if (params.modality && params.modality != found) {
            String expected = "expected ${found}, for which the bundle ${params.model} was made"
            return [faults: ["parameter --modality: found '${params.modality}', ${expected}".toString()]]
        }
        return [faults: [], modality: found]
    }

    /** Faults of parameters that name a file or directory which must be there. */
    private static List<String> files(Map params) {
        List<String> faults = []
        if (params.weights && Schema.plain(params.weights) && !Files.exists(Nextflow.file(params.weights) as Path)) {
            faults << "parameter --weights: found '${params.weights}', expected a path that exists".toString()
        }
        if (params.preset && !Schema.plain(params.preset)) {
            faults << "parameter --preset: found '${params.preset}', expected ${Schema.PLAIN}".toString()
        }
        else if (Presets.own(params) && !Files.isRegularFile(Presets.own(params) as Path)) {
            faults << "parameter --preset: found '${params.preset}', expected a file that exists".toString()
        }
        if (params.fold_lists && Schema.plain(params.fold_lists) && !Presets.lists(params)) {
            faults << "parameter --fold_lists: found '${params.fold_lists}', expected a directory with one .txt a fold".toString()
        }
        return faults
    }

    /** Faults of rows in which two columns that mean different things name one file. */
    private static List<String> doubled(List<Map> rows) {
        return rows.collectMany { row ->
            Map<String, String> columns = [:]
            ['image', 'ct', 'mask'].findAll { column -> row[column] instanceof Path }.collectMany { column ->
                String other = columns.putIfAbsent(place(row[column] as Path), column)
                other ? ["samplesheet, patient ${row.patient}, column ${column}: the same file as column ${other}, expected another".toString()] : []
            }
        }
    }

    /** A line where patients share an image or a CT: one of them may be trained on and another tested on. */
    private static List<String> copies(List<Map> rows) {
        Map<String, String> owners = [:]
        List<String> found = ['image', 'ct'].collectMany { column ->
            rows.findAll { row -> row[column] instanceof Path }.collectMany { row ->
                String owner = owners.putIfAbsent("${column} ${place(row[column] as Path)}".toString(), row.patient as String)
                owner ? ["patient ${row.patient}, column ${column}: the same file as patient ${owner}'s".toString()] : []
            }
        }
        return found ? ["samplesheet: ${found.size()} images are another patient's too, who may be tested on what was trained on; ${found[0]}".toString()] : []
    }

    /** Where a file is, links followed. */
    private static String place(Path path) {
        return path.fileSystem == FileSystems.default && Files.exists(path) ? path.toRealPath().toString() : path.toUriString()
    }

    /** Faults of cells that some parameters need, and others do not. */
    private static List<String> columns(Map params, List<Map> rows) {
        List<String> faults = []
        if (params.segment && params.mode != 'train') {
            rows.findAll { it.ct && !it.region }.each { row ->
                faults << "samplesheet, patient ${row.patient}, column region: empty, --segment needs it to choose the classes that are scored".toString()
            }
        }
        return faults
    }
}
