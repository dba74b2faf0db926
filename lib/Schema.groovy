import groovy.json.JsonSlurper
import java.nio.file.Files
import java.nio.file.Path
import nextflow.Nextflow

/**
 * Parameters and samplesheets against a schema in nf-schema's dialect: every fault at once, each a line that says where
 * it is, what was found and what was expected. Read here because a pipeline that must run offline cannot count on a
 * plugin; it knows nothing of this pipeline. The keywords that it heeds and those it may pass over stand below, and
 * tests/engine/test_schema.py holds the schemas against them.
 */
class Schema {

    static final List<String> HEEDED = [
        '$defs', 'properties', 'required', 'items', 'uniqueEntries',
        'type', 'enum', 'pattern', 'minimum', 'maximum', 'format', 'errorMessage',
    ]
    static final List<String> REMARKS = [
        '$schema', '$id', 'allOf', 'title', 'description', 'fa_icon', 'hidden', 'default', 'mimetype', 'schema', 'meta',
    ]
    static final List<String> PATHS = ['path', 'file-path', 'directory-path']

    /** Options of `nextflow run` that are easily written with two hyphens. */
    private static final List<String> ENGINE = ['resume', 'profile', 'stub-run', 'work-dir', 'params-file', 'bg']

    /** What a path must not hold: a task's script would take the first for something else, the engine the second for a glob. */
    private static final String QUOTING = /(?s).*['"$`\\\n\r].*/
    private static final String GLOBBING = /(?s).*[*?\[\]{}].*/
    static final String PLAIN = 'a path without quotes, $, `, \\, line breaks and any of *?[]{}'

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

    /** Faults of the pipeline's parameters; `schema` is the path of nextflow_schema.json. */
    static List<String> params(Map params, Path schema) {
        Map rules = read(schema)
        Map properties = rules['$defs'].collectEntries { name, group -> group.properties }
        List required = rules['$defs'].collectMany { name, group -> group.required ?: [] }
        List<String> faults = []
        params.each { key, value ->
            String name = key as String
            if (!properties.containsKey(name)) {
                // the engine adds a camelCase twin for every --kebab-case parameter: one line for both is enough
                if (!params.keySet().any { other -> other != name && (other as String).contains('-') && camel(other as String) == name }) {
                    String hint = name in ENGINE ? ", an option of the engine has one hyphen: -${name}" : nearest(name, properties.keySet())
                    faults << "parameter --${name}: unknown${hint}".toString()
                }
                return
            }
            String expected = value && isPath(properties[name]) && !plain(value) ? PLAIN : mismatch(value, properties[name])
            if (expected) {
                faults << "parameter --${name}: found '${value}', expected ${expected}".toString()
            }
        }
        required.findAll { name -> params[name] == null || params[name] == '' }.each { name ->
            faults << "parameter --${name}: missing, expected ${describe(properties[name])}".toString()
        }
        return faults
    }

    /**
     * Faults and rows of a samplesheet: [faults: List<String>, rows: List<Map>]. Relative paths of the rows are resolved
     * against the sheet's place. `mode` needs the columns `more` besides those that the schema requires.
     */
    static Map sheet(Object source, Path schema, String mode, List<String> more) {
        Path path = Nextflow.file(source) as Path
        String name = path.fileName.toString()
        if (!Files.isRegularFile(path)) {
            return [faults: ["samplesheet ${source}: no such file".toString()], rows: []]
        }
        Map rules = read(schema)
        Map columns = rules.items.properties
        List<List> lines = filled(path)
        if (!lines) {
            return [faults: ["${name}: empty, expected a header line ${columns.keySet().join(',')}".toString()], rows: []]
        }
        def (int first, List<String> header) = lines[0]
        List<String> needed = (rules.items.required + more).unique()
        List<String> faults = headerFaults("${name}, line ${first}", header, columns, needed, mode)
        Map<List, Integer> seen = [:]
        List<Map> rows = lines.drop(1).withIndex(1).collect { line, number ->
            def (int at, List<String> cells) = line
            String where = "${name}, row ${number} (line ${at})"
            if (cells.size() != header.size()) {
                faults << "${where}: found ${cells.size()} cells, expected ${header.size()} as in the header".toString()
            }
            Map row = [header, cells].transpose().collectEntries { it }
            columns.each { column, rule ->
                String expected = cell(row, column, rule, path, column in needed && column in header)
                if (expected) {
                    faults << "${where}, column ${column}: ${row[column] ? "found '${row[column]}'" : 'empty'}, expected ${expected}".toString()
                }
            }
            rules.uniqueEntries.findAll { column -> row[column] }.each { column ->
                Integer before = seen.putIfAbsent([column, row[column].toLowerCase()], number) // many file systems know no case
                if (before) {
                    faults << "${where}, column ${column}: found '${row[column]}' again (also row ${before}), expected each ${column} once".toString()
                }
            }
            columns.findAll { column, rule -> isPath(rule) && row[column] && plain(row[column]) }.each { column, _rule ->
                row[column] = place(path, row[column])
            }
            return row
        }
        if (!rows && !faults) {
            faults << "${name}: no patient below the header".toString()
        }
        return [faults: faults, rows: rows]
    }

    /** The place that a `value` names beside a sheet; an object store knows no '..', so of a URI none is left. */
    static Path place(Path sheet, String value) {
        String directory = sheet.parent.toUriString()
        if (value.contains('://') || value.startsWith('/')) {
            return Nextflow.file(value) as Path
        }
        if (!directory.contains('://') || !('..' in value.tokenize('/'))) {
            return sheet.parent.resolve(value)
        }
        def (String scheme, String rest) = directory.split('://', 2)
        List<String> parts = []
        "${rest}/${value}".toString().tokenize('/').each { part ->
            if (part == '..' && parts.size() > 1) { // the first is the bucket or the server
                parts.remove(parts.size() - 1)
            }
            else if (!(part in ['.', '..'])) {
                parts << part
            }
        }
        return Nextflow.file("${scheme}://${parts.join('/')}") as Path
    }

    private static List<String> headerFaults(String where, List<String> header, Map columns, List<String> needed, String mode) {
        List<String> faults = []
        String mark = header.size() == 1 ? [';': 'semicolons', '\t': 'tabs'].find { sign, _word -> header[0].contains(sign) }?.value : null
        if (mark) {
            return ["${where}: its cells are separated by ${mark}, expected commas".toString()]
        }
        header.findAll { !columns.containsKey(it) }.each { column ->
            faults << "${where}: unknown column '${column}'${nearest(column, columns.keySet())}".toString()
        }
        header.countBy { it }.findAll { column, count -> count > 1 }.each { column, count ->
            faults << "${where}: column '${column}' stands ${count} times".toString()
        }
        (needed - header).each { column ->
            faults << "${where}: column '${column}' is missing, --mode ${mode} needs it".toString()
        }
        return faults
    }

    /** What was expected of a row's cell where it breaks its rule, or null. */
    private static String cell(Map row, String column, Map rule, Path sheet, boolean needed) {
        String value = row[column]
        if (!value) {
            return needed ? describe(rule) : null
        }
        if (!isPath(rule)) {
            return mismatch(value, rule)
        }
        if (!plain(value)) {
            return PLAIN
        }
        Path found = place(sheet, value)
        if (!Files.exists(found)) {
            return "${describe(rule)} that exists"
        }
        if (Files.isDirectory(found)) {
            return null // a series in a directory has no name that ends in a format
        }
        return value =~ /\s/ ? 'a path without spaces' : mismatch(value, rule)
    }

    private static Map read(Path schema) {
        return new JsonSlurper().parseText(schema.text) as Map
    }

    private static boolean isPath(Map rule) {
        return rule.format in PATHS
    }

    /** What was expected where `value` breaks `rule`, or null. */
    private static String mismatch(Object value, Map rule) {
        if (value == null || value == '') {
            return null
        }
        String text = value.toString()
        boolean fits = [rule.type].flatten().any { type -> isOf(type, value) } &&
            (!rule.enum || text in rule.enum*.toString()) &&
            (!rule.pattern || text ==~ rule.pattern)
        if (fits && text.number) {
            BigDecimal number = text as BigDecimal
            fits = (rule.minimum == null || number >= rule.minimum) && (rule.maximum == null || number <= rule.maximum)
        }
        return fits ? null : describe(rule)
    }

    private static boolean isOf(Object type, Object value) {
        String text = value.toString()
        switch (type) {
            case 'boolean': return text in ['true', 'false']
            case 'integer': return text ==~ /-?\d+/
            case 'number': return text.number
            case 'string': return !(value instanceof Boolean)
            default: return type == null
        }
    }

    private static String describe(Map rule) {
        if (rule.errorMessage) {
            return rule.errorMessage
        }
        if (rule.enum) {
            return rule.enum.size() == 1 ? "${rule.enum[0]}" : "one of ${rule.enum.join(', ')}"
        }
        List<String> range = [rule.minimum != null ? "at least ${rule.minimum}" : '', rule.maximum != null ? "at most ${rule.maximum}" : '']
        List<String> parts = [[rule.type].flatten().join(' or '), range.findAll().join(' and '), rule.pattern ? "matching ${rule.pattern}" : '']
        return parts.findAll().join(', ')
    }

    /** [number, cells] of each line of a CSV file that is not empty. */
    private static List<List> filled(Path file) {
        List<String> text = file.text.replace('\uFEFF', '').readLines()
        return text.withIndex(1).findAll { line, _number -> line.trim() }.collect { line, number -> [number, cells(line)] }
    }

    /** The cells of one CSV line; double quotes around a cell protect commas, and double themselves. */
    private static List<String> cells(String line) {
        return "${line},".toString().findAll(/\s*(?:"((?:[^"]|"")*)"|((?!")[^,]*?))\s*,/) { _whole, quoted, bare ->
            (quoted != null ? quoted.replace('""', '"') : bare).trim()
        }
    }

    private static String nearest(String word, Collection<String> known) {
        List<String> close = known.toList().closest(word)
        return close ? ", did you mean '${close[0]}'?" : ''
    }

    private static String camel(String kebab) {
        return kebab.replaceAll(/-([A-Za-z0-9])/) { _whole, letter -> letter.toUpperCase() }
    }
}
