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
}
