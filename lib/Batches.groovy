import groovy.json.JsonSlurper
import java.nio.file.Path
import nextflow.exception.WorkflowScriptErrorException

/** The patients that one prediction task takes together, and what it made of each. */
class Batches {

    /**
     * Rows [meta, image, mask] in tasks of at most `size`: [number, metas, images, masks]. A row that is not `masked` adds
     * nothing to the masks.
     */
    static List<List> cut(List rows, int size) {
        return rows.collate(size).withIndex().collect { batch, number ->
            def metas = batch.collect { [patient: it[0].patient, region: it[0].region, masked: it[0].masked] }
            [number, metas, batch.collect { it[1] }, batch.findAll { it[0].masked }.collect { it[2] }]
        }
    }

    /** [patient, sCT, uncertainty map] of each of the task's patients; its files are named after them. */
    static List<List> results(List<Map> metas, Object scts, Object uncertainties) {
        def (sct, uncertainty) = [scts, uncertainties].collect { files -> [files].flatten().collectEntries { [it.baseName, it] } }
        return metas.findAll { sct[it.patient] }.collect { [it.patient, sct[it.patient], uncertainty[it.patient]] }
    }

    /** [patient: why] of the images that a task could not use, as its summary says; a stub's is empty. */
    static Map<String, String> failed(Path summary) {
        return summary.text.trim() ? new JsonSlurper().parseText(summary.text).failed ?: [:] : [:]
    }

    /** The end of a run of which more of `count` images could not be used than section `curation` of the settings allows. */
    static void limit(Map<String, String> failed, int count, Map curation) {
        def share = curation.strict ? 0 : curation.max_excluded
        int allowed = share ? Math.min(Math.max(1, (share * count) as int), count - 1) : 0 // one may go, not all
        if (failed.size() > allowed) {
            String rule = curation.strict ? '--strict allows none' : "--max_excluded ${curation.max_excluded} allows ${allowed}"
            String told = failed.take(5).collect { patient, why -> "${patient}: ${why}" }.join('; ')
            throw new WorkflowScriptErrorException("${failed.size()} of ${count} images could not be used, ${rule}; what was predicted is published: ${told}")
        }
    }
}
