/** What the draw of test and folds looks at, cut out of the sheet: more would train everything again for a path that changed. */
class Cohort {

    private static final List<String> COLUMNS = ['patient', 'region', 'center', 'split']

    /** CSV of the patients' metas, by name: the order of the sheet's rows does not matter either. */
    static String csv(List<Map> metas) {
        return ([COLUMNS] + metas.sort(false) { it.patient }.collect { meta -> COLUMNS.collect { meta[it] } })*.join(',').join('\n')
    }
}
