import java.nio.file.FileSystems
import java.nio.file.Files
import java.nio.file.Path

/** What of a sheet is DICOM, to be opened before anything is computed. */
class Scans {

    /** The sheet's DICOM inputs on a file system, [patient, column, path]: directories with a series, and contours (.dcm). */
    static List<List> of(List<Map> rows) {
        return rows.collectMany { row ->
            row.findAll { _column, value -> value instanceof Path && value.fileSystem == FileSystems.default }
                .findAll { _column, path -> Files.isDirectory(path as Path) || path.toString().endsWith('.dcm') }
                .collect { column, path -> [row.patient, column, path] }
        }
    }
}
