import groovy.json.JsonSlurper
import java.nio.file.Files
import java.nio.file.Path
import nextflow.Nextflow

/**
 * The check of parameters and samplesheet before any task: every fault at once, each a line that says where it is,
 * what was found and what was expected. The rules stand in nextflow_schema.json and assets/schema_input.json
 * (nf-schema's dialect), read here because a pipeline that must run offline cannot count on a plugin.
 */
class InputCheck {

    /** Columns that a mode cannot do without, beyond what the schema asks of every sheet. */
    private static final Map<String, List<String>> NEEDED = [
        train: ['region', 'ct'],
        predict: [],
        evaluate: ['ct', 'sct'],
    ]

    /** What a path must not hold: a task's script would take the first for something else, the engine the second for a glob. */
    private static final String QUOTING = /(?s).*['"$`\\\n\r].*/
    private static final String GLOBBING = /(?s).*[*?\[\]{}].*/
    private static final String PLAIN = 'a path without quotes, $, `, \\, line breaks and any of *?[]{}'

    /** All faults of a run, the sheet's rows, and the modality: the one given, in predict mode else the bundle's. */
    static Map run(Map params, Path projectDir) {
        Map sheet = params.input && plain(params.input) ? sheet(params.input, projectDir.resolve('assets/schema_input.json'), params.mode.toString()) : [faults: [], rows: []]
        Map model = params.mode == 'predict' ? model(params) : [faults: []]
        def modality = params.modality ?: model.modality
        List<String> faults = InputCheck.params(params, projectDir.resolve('nextflow_schema.json')) + sheet.faults + model.faults + study(params, sheet.rows)
        if (!modality && !model.faults) {
            faults << 'parameter --modality: missing, expected one of mr, cbct'
        }
        return [faults: faults, rows: sheet.rows, modality: modality]
    }

    /** Whether a path can go through the engine and into scripts as it is. */
    static boolean plain(Object path) {
        return !(path.toString() ==~ QUOTING) && !(path.toString() ==~ GLOBBING)
    }

    /** Faults of [name: directory] that the engine was started in or told of: its tasks' scripts name them. */
    static List<String> places(Map<String, Object> places) {
        return places.findAll { name, place -> place.toString() ==~ QUOTING }.collect { name, place ->
            "${name}: found '${place}', expected a path without quotes, \$, `, \\ and line breaks".toString()
        }
    }

    /** Faults of the bundle of predict mode, and its modality: [faults: List<String>, modality: String]. */
    static Map model(Map params) {
        if (!params.model) {
            return [faults: ['parameter --model: missing, --mode predict needs a model bundle directory']]
        }
        if (!plain(params.model)) {
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
            return [faults: ["parameter --modality: found '${params.modality}', expected ${found}, for which the bundle ${params.model} was made".toString()]]
        }
        return [faults: [], modality: found]
    }

    static String text(List<String> faults) {
        return "${faults.size()} fault${faults.size() > 1 ? 's' : ''} in the input, nothing was started:\n  ${faults.join('\n  ')}"
    }

    /** Faults of the parameters; `params` is the pipeline's map, `schema` the path of nextflow_schema.json. */
    static List<String> params(Map params, Path schema) {
        def rules = new JsonSlurper().parseText(schema.text)
        Map properties = rules['$defs'].collectEntries { name, group -> group.properties }
        List required = rules['$defs'].collectMany { name, group -> group.required ?: [] }
        List<String> faults = []
        params.each { name, value ->
            String key = name as String
            if (!properties.containsKey(key)) {
                // the engine adds a camelCase twin for every --kebab-case parameter: one line for both is enough
                if (!params.keySet().any { other -> other != key && (other as String).contains('-') && camel(other as String) == key }) {
                    faults << "parameter --${key}: unknown${nearest(key, properties.keySet())}".toString()
                }
                return
            }
            String fault = mismatch(value, properties[key])
            if (value && (isPath(properties[key]) || key == 'preset') && !plain(value)) {
                fault = PLAIN
            }
            if (fault) {
                faults << "parameter --${key}: found '${value}', expected ${fault}".toString()
            }
        }
        required.findAll { key -> params[key] == null || params[key] == '' }.each { key ->
            faults << "parameter --${key}: missing, expected ${describe(properties[key])}".toString()
        }
        return faults
    }

    /** The place that a relative `value` names beside a sheet; an object store knows no '..', so of a URI none is left. */
    static Path beside(Path sheet, String value) {
        String directory = sheet.parent.toUriString()
        if (!directory.contains('://') || !('..' in value.tokenize('/'))) {
            return sheet.parent.resolve(value)
        }
        def (String scheme, String place) = directory.split('://', 2)
        List<String> parts = []
        "${place}/${value}".toString().tokenize('/').each { part ->
            if (part == '..' && parts.size() > 1) { // the first is the bucket or the server
                parts.remove(parts.size() - 1)
            }
            else if (!(part in ['.', '..'])) {
                parts << part
            }
        }
        return Nextflow.file("${scheme}://${parts.join('/')}") as Path
    }

    /** Faults and rows of a sheet: [faults: List<String>, rows: List<Map>] with paths resolved against the sheet's place. */
    static Map sheet(Object source, Path schema, String mode) {
        List<String> faults = []
        List<Map> rows = []
        Path path = Nextflow.file(source) as Path
        String name = path.fileName.toString()
        if (!Files.isRegularFile(path)) {
            return [faults: ["samplesheet ${source}: no such file".toString()], rows: rows]
        }
        Map items = new JsonSlurper().parseText(schema.text).items
        Map properties = items.properties
        List<String> lines = path.text.replace('\uFEFF', '').readLines()
        int first = lines.findIndexOf { it.trim() }
        if (first < 0) {
            return [faults: ["${name}: empty, expected a header line ${properties.keySet().join(',')}".toString()], rows: rows]
        }
        List<String> header = cells(lines[first])
        header.findAll { !properties.containsKey(it) }.each { column ->
            faults << "${name}, line ${first + 1}: unknown column '${column}'${nearest(column, properties.keySet())}".toString()
        }
        header.countBy { it }.findAll { column, count -> count > 1 }.each { column, count ->
            faults << "${name}, line ${first + 1}: column '${column}' stands ${count} times".toString()
        }
        List<String> needed = (items.required + NEEDED[mode]).unique()
        (needed - header).each { column ->
            faults << "${name}, line ${first + 1}: column '${column}' is missing, --mode ${mode} needs it".toString()
        }
        Map<String, Integer> seen = [:]
        lines.eachWithIndex { line, index ->
            if (index <= first || !line.trim()) {
                return
            }
            String at = "${name}, row ${rows.size() + 1} (line ${index + 1})"
            List<String> values = cells(line)
            if (values.size() != header.size()) {
                faults << "${at}: found ${values.size()} cells, expected ${header.size()} as in the header".toString()
            }
            Map row = [header, values].transpose().collectEntries { it }
            properties.each { column, rule ->
                String value = row[column] ?: ''
                if (!value) {
                    if (column in needed && column in header) {
                        faults << "${at}, column ${column}: empty, expected ${describe(rule)}".toString()
                    }
                    return
                }
                if (isPath(rule)) {
                    if (!plain(value)) {
                        faults << "${at}, column ${column}: found '${value}', expected ${PLAIN}".toString()
                        return
                    }
                    def place = value.contains('://') || value.startsWith('/') ? Nextflow.file(value) : beside(path, value)
                    if (!Files.exists(place as Path)) {
                        faults << "${at}, column ${column}: found '${value}', expected ${describe(rule)} that exists".toString()
                    }
                    else if (!Files.isDirectory(place as Path) && rule.pattern && !(value ==~ rule.pattern)) {
                        faults << "${at}, column ${column}: found '${value}', expected ${describe(rule)}".toString()
                    }
                    row[column] = place
                }
                else {
                    String fault = mismatch(value, rule)
                    if (fault) {
                        faults << "${at}, column ${column}: found '${value}', expected ${fault}".toString()
                    }
                }
            }
            if (row.patient) {
                Integer before = seen.putIfAbsent(row.patient as String, rows.size() + 1)
                if (before) {
                    faults << "${at}, column patient: found '${row.patient}' again (also row ${before}), expected each patient once".toString()
                }
            }
            rows << row
        }
        if (!rows && !faults) {
            faults << "${name}: no patient below the header".toString()
        }
        return [faults: faults, rows: rows]
    }

    /** Faults that lie between parameters, or between the parameters and the sheet's rows. */
    static List<String> study(Map params, List<Map> rows) {
        List<String> faults = []
        if (params.weights && plain(params.weights) && !Files.exists(Nextflow.file(params.weights) as Path)) {
            faults << "parameter --weights: found '${params.weights}', expected a path that exists".toString()
        }
        if (params.preset.toString().endsWith('.toml') && plain(params.preset) && !Files.isRegularFile(Presets.own(params) as Path)) {
            faults << "parameter --preset: found '${params.preset}', expected a file that exists".toString()
        }
        faults.addAll(names(params, rows*.patient as Set))
        List<String> arms = params.registration?.toString()?.tokenize(',') ?: []
        if (params.mode == 'train' && 'truth' in arms) {
            rows.findAll { !it.ct_aligned }.each { row ->
                faults << "samplesheet, patient ${row.patient}, column ct_aligned: empty, --registration truth needs the CT in its true place".toString()
            }
        }
        if (params.segment && params.mode != 'train') {
            rows.findAll { it.ct && !it.region }.each { row ->
                faults << "samplesheet, patient ${row.patient}, column region: empty, --segment needs it to choose the classes that are scored".toString()
            }
        }
        if (params.mode == 'train' && params.holdout?.toString()?.integer && !rows.any { it.split == 'test' }) {
            int holdout = params.holdout as int
            if (rows && holdout >= rows.size()) {
                faults << "parameter --holdout: found '${holdout}', expected less than the sheet's ${rows.size()} patients".toString()
            }
        }
        return faults
    }

    /** Faults of the lists of patients, --exclude and --fold_lists: files that are there, with names of the sheet (`known`). */
    private static List<String> names(Map params, Set<String> known) {
        List<String> faults = []
        Map<String, List<Path>> lists = [:]
        faults.addAll(Exclusions.faults(params, known))
        if (params.fold_lists && plain(params.fold_lists)) {
            lists.fold_lists = Files.isDirectory(Nextflow.file(params.fold_lists) as Path) ? Presets.lists(params) : []
        }
        lists.each { name, files ->
            if (!files) {
                faults << "parameter --${name}: found '${params[name]}', expected a directory with one .txt a fold".toString()
            }
            files.each { file ->
                List<String> named = file.text.replace('\uFEFF', '').readLines().findAll { !it.startsWith('#') }*.trim().findAll()
                List<String> strange = known ? named - known : []
                if (strange) {
                    faults << "parameter --${name}, ${file.fileName}: found ${strange.take(3).collect { "'${it}'" }.join(', ')}${strange.size() > 3 ? " and ${strange.size() - 3} more" : ''}, expected patients of the samplesheet".toString()
                }
            }
        }
        return faults
    }

    private static boolean isPath(Map rule) {
        return rule.format in ['path', 'file-path', 'directory-path']
    }

    /** What was expected where `value` breaks `rule`, or null. */
    private static String mismatch(Object value, Map rule) {
        if (value == null || value == '') {
            return null
        }
        List types = rule.type instanceof List ? rule.type : [rule.type]
        boolean typed = types.any { type ->
            type == null ||
                (type == 'boolean' && (value instanceof Boolean || value.toString() in ['true', 'false'])) ||
                (type == 'integer' && value.toString() ==~ /-?\d+/) ||
                (type == 'number' && value.toString().number) ||
                (type == 'string' && !(value instanceof Boolean))
        }
        if (!typed) {
            return describe(rule)
        }
        String text = value.toString()
        if (rule.enum && !(text in rule.enum*.toString())) {
            return describe(rule)
        }
        if (rule.pattern && !(text ==~ rule.pattern)) {
            return describe(rule)
        }
        if (text.number) {
            BigDecimal number = text as BigDecimal
            if ((rule.minimum != null && number < rule.minimum) || (rule.maximum != null && number > rule.maximum)) {
                return describe(rule)
            }
        }
        return null
    }

    private static String describe(Map rule) {
        if (rule.errorMessage) {
            return rule.errorMessage
        }
        if (rule.enum) {
            return rule.enum.size() == 1 ? "${rule.enum[0]}" : "one of ${rule.enum.join(', ')}"
        }
        String type = rule.type instanceof List ? rule.type.join(' or ') : rule.type
        String range = [rule.minimum != null ? "at least ${rule.minimum}" : null, rule.maximum != null ? "at most ${rule.maximum}" : null].findAll().join(' and ')
        return [type, range, rule.pattern ? "matching ${rule.pattern}" : null].findAll().join(', ')
    }

    /** The cells of one CSV line; double quotes protect commas and double themselves. */
    private static List<String> cells(String line) {
        List<String> result = []
        StringBuilder cell = new StringBuilder()
        boolean quoted = false
        line.eachWithIndex { character, index ->
            if (character == '"') {
                if (!quoted && index > 0 && line[index - 1] == '"' && cell) {
                    cell << '"'
                }
                quoted = !quoted
            }
            else if (character == ',' && !quoted) {
                result << cell.toString().trim()
                cell.length = 0
            }
            else {
                cell << character
            }
        }
        result << cell.toString().trim()
        return result
    }

    private static String nearest(String word, Collection<String> known) {
        String best = known.min { distance(word.toLowerCase(), it.toLowerCase()) }
        return best && distance(word.toLowerCase(), best.toLowerCase()) <= Math.max(2, word.size().intdiv(3)) ? ", did you mean '${best}'?" : ''
    }

    private static int distance(String a, String b) {
        List<Integer> previous = (0..b.size()).toList()
        a.eachWithIndex { x, i ->
            List<Integer> current = [i + 1]
            b.eachWithIndex { y, j ->
                current << [previous[j + 1] + 1, current[j] + 1, previous[j] + (x == y ? 0 : 1)].min()
            }
            previous = current
        }
        return previous[-1]
    }

    private static String camel(String kebab) {
        return kebab.replaceAll(/-([A-Za-z0-9])/) { whole, letter -> letter.toUpperCase() }
    }
}
