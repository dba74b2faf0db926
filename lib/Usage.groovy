import groovy.json.JsonSlurper
import java.nio.file.Paths

/** The text of --help, from the one place that describes the parameters. */
class Usage {

    static String text(Object projectDir) {
        def schema = new JsonSlurper().parseText(Paths.get(projectDir.toString(), 'nextflow_schema.json').text)
        String groups = schema['$defs'].collect { key, group ->
            group.title + '\n' + group.properties.findAll { name, rule -> !rule.hidden }.collect { name, rule ->
                "  --${name.padRight(20)} ${rule.description}${rule.enum ? " [${rule.enum.join(', ')}]" : ''}${rule.default != null ? " (default: ${rule.default})" : ''}"
            }.join('\n')
        }.join('\n\n')
        return "synthct: ${schema.description}\n\nnextflow run main.nf -profile gpu,docker --input samplesheet.csv --modality mr --outdir results\n\n${groups}\n"
    }
}
