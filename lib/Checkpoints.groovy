import nextflow.Global

/**
 * Where training keeps its state past its tasks: --checkpoint_dir, else OUTDIR/checkpoints; an absolute path or a URI.
 *
 * A task asks here and takes it neither as an input nor by `params`: both are hashed, and a study with another OUTDIR
 * would train everything again.
 */
class Checkpoints {

    static String directory() {
        def session = Global.session
        String place = session.params.checkpoint_dir ?: "${session.params.outdir}/checkpoints"
        return isUri(place) ? place : session.workflowMetadata.launchDir.resolve(place).toString()
    }

    /** What a container must show besides the task's files; null where the state goes to an object store. */
    static String mount() {
        return isUri(directory()) ? null : directory()
    }

    static boolean isUri(String place) {
        return place.contains('://')
    }
}
