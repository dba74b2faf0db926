/** The patients that one task takes together, and what a prediction made of each. */
class Batches {

    static final int PREPROCESSED = 32 // patients a task at most, on average

    /**
     * Of each patient the batch in which it is, and how many that batch has: [name: [number, size]]; at most `average` patients
     * in one, on average.
     *
     * By the name alone, so that another order of the sheet changes no batch, and a new patient only its own (until there are
     * so many that the number of batches doubles); by its digest, as Java's own hash puts serial names together.
     */
    static Map<String, List<Integer>> ofNames(Collection<String> names, int average) {
        if (average == 1) {
            return names.withIndex().collectEntries { name, number -> [name, [number, 1]] }
        }
        int count = 1
        while (count * average < names.size()) {
            count *= 2
        }
        Map<Integer, List<String>> members = names.groupBy { name -> Integer.parseInt(name.md5().take(7), 16) & (count - 1) }
        return members.collectMany { number, batch -> batch.collect { name -> [name, number, batch.size()] } }
            .collectEntries { name, number, size -> [name, [number, size]] }
    }

    /** The files of a batch, each as [patient's meta, files...]; `named` says of a file the patient whose it is. */
    static List<List> apart(List<Map> metas, List files, Closure named) {
        List<Map> found = files.collect { each -> [each].flatten().collectEntries { [named(it), it] } }
        return metas.findAll { found[0][it.patient] }.collect { meta -> [meta] + found.collect { it[meta.patient] } }
    }

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

    /**
     * [patient, [sCT, uncertainty map]] of each of the task's patients, with a third, the directory of the networks' own sCTs,
     * where they were asked for; the files and directories are named after the patients.
     */
    static List<List> results(List<Map> metas, Object scts, Object uncertainties, Object members) {
        def (sct, uncertainty) = [scts, uncertainties].collect { files -> [files].flatten().collectEntries { [it.baseName, it] } }
        Map apart = [members].flatten().collectEntries { [it.name, it] }
        return metas.findAll { sct[it.patient] }.collect { row ->
            [row.patient, [sct[row.patient], uncertainty[row.patient]] + [apart[row.patient]].findAll()]
        }
    }
}
