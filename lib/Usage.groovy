import groovy.json.JsonSlurper
import java.nio.file.Paths

/** The text of --help, from the one place that describes the parameters. */
class Usage {

    static String text(Object projectDir) {
        def schema = new JsonSlurper().parseText(Paths.get(projectDir.toString(), 'nextflow_schema.json').text)
        String groups = schema['$defs'].collect { key, group ->
            ([group.title] + group.properties.findAll { name, rule -> !rule.hidden }.collect { name, rule -> line(name, rule) }).join('\n')
        }.join('\n\n')
        String example = 'nextflow run main.nf -profile gpu,docker --input samplesheet.csv --modality mr --outdir results'
        return "synthct: ${schema.description}\n\n${example}\n\n${groups}\n"
    }

    private static String line(String name, Map rule) {
        String values = rule.enum ? " [${rule.enum.join(', ')}]" : ''
        String value = rule.default != null ? " (default: ${rule.default})" : ''
        return "  --${name.padRight(20)} ${rule.description}${values}${value}"
    }
}
