import java.nio.file.FileVisitOption
import java.nio.file.Files
import java.nio.file.Path
import nextflow.Nextflow

/** What lies in --weights, which may be an object store: the check before anything runs needs the names alone. */
class Weights {

    private static final int DEPTH = 4 // DATASET/TRAINER/fold_0/checkpoint_final.pth

    /** What CHECK is told: whether TotalSegmentator will label, --weights as it was given ('' for none), and what lies in it. */
    static List asked(Map params) {
        return [params.segment as boolean, params.weights ?: '', names(params)]
    }

    /** What a prediction with these settings needs of --weights: the directory where TotalSegmentator makes body masks, else []. */
    static Object ofPrediction(Map params, Map settings) {
        return params.weights && settings.inference.body_mask == 'totalsegmentator' ? Nextflow.file(params.weights) : []
    }

    /** Names of the files, relative to the directory, one a line; '' where it was not given. */
    static String names(Map params) {
        if (!params.weights) {
            return ''
        }
        Path place = Nextflow.file(params.weights) as Path
        def walk = Files.walk(place, DEPTH, FileVisitOption.FOLLOW_LINKS)
        try {
            return walk.iterator().findAll { Files.isRegularFile(it) }.collect { place.relativize(it).toString() }.sort().join('\n')
        }
        finally {
            walk.close()
        }
    }
}
