import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import java.nio.file.Path

/**
 * What only the engine knows of a run, for the provenance that REPORT writes: the workflow, the engine, the parameters.
 * No time, no session and no place is in it: a run that was resumed, or that publishes elsewhere, is the same run.
 */
class Provenance {

    /** Groups of the schema whose parameters say where and how a run is computed, and none of what. */
    private static final List<String> ELSEWHERE = ['running_options', 'cluster_options']

    /** On one line: {"workflow": {...}, "engine": {...}, "parameters": {name: value}}. */
    static String of(Map params, Object workflow) {
        Path projectDir = workflow.projectDir as Path
        return JsonOutput.toJson([
            workflow: [
                name: workflow.manifest.name, version: workflow.manifest.version, description: workflow.manifest.description,
                url: workflow.manifest.homePage, license: workflow.manifest.license,
                revision: workflow.revision, commit: workflow.commitId, code: CodeDigest.ofWorkflow(projectDir),
            ],
            engine: [name: 'Nextflow', version: workflow.nextflow.version.toString()],
            parameters: parameters(params, projectDir),
        ])
    }

    /** The parameters that have a value, by name; of a path its last part alone. */
    private static Map<String, Object> parameters(Map params, Path projectDir) {
        Map schema = new JsonSlurper().parseText(projectDir.resolve('nextflow_schema.json').text) as Map
        Map<String, Map> rules = [:]
        schema['$defs'].each { group, content -> content.properties.each { name, rule -> rules[name] = rule + [group: group] } }
        List<String> told = rules.findAll { name, rule -> name != 'outdir' && (name == 'weights' || !(rule.group in ELSEWHERE)) }*.key
        return told.sort().findAll { name -> params[name] != null }.collectEntries { name ->
            Object value = params[name]
            boolean isPath = name == 'preset' || rules[name].format in ['file-path', 'directory-path']
            [name, value instanceof Boolean || value instanceof Number ? value : withoutPlaces(value.toString(), isPath)]
        }
    }

    /** A path's last part; in another text ("arm=a/b.txt,arm=c/d.txt") that of each path: directories may be called after persons. */
    static String withoutPlaces(String text, boolean isPath) {
        return isPath ? text.tokenize('/').with { parts -> parts ? parts.last() : '' } : text.replaceAll('[^=,;]*/', '')
    }
}
