import java.nio.file.FileSystems
import java.nio.file.Path

/** What of a sheet is looked at before anything is computed: its volumes, series and contours. */
class Scans {

    /**
     * The sheet's inputs on a file system, [patient, column, path], in an order of their own, so that the sheet's does not matter;
     * those in object stores are seen by the step that fetches them.
     */
    static List<List> of(List<Map> rows) {
        return rows.collectMany { row ->
            row.findAll { _column, value -> value instanceof Path && value.fileSystem == FileSystems.default }
                .collect { column, path -> [row.patient, column, path] }
        }.sort { scan -> "${scan[0]} ${scan[1]}".toString() }
    }
}
