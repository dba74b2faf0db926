import java.nio.file.Path
import nextflow.Global

/** What a cluster's profile cannot do without, said before any task rather than by the cluster, one task at a time. */
class ClusterCheck {

    /**
     * Faults of a run with the `profiles` chosen ("gpu,k8s"), whose tasks meet in `workDir`, whose training keeps its
     * state in `checkpoints` (absolute paths or URIs) and whose tools lie in `projectDir`.
     */
    static List<String> faults(Map params, String profiles, String workDir, String checkpoints, String projectDir) {
        Set<String> chosen = profiles.tokenize(',') as Set
        List<String> faults = []
        if ('awsbatch' in chosen) {
            if (!params.queue) {
                faults << 'parameter --queue: missing, -profile awsbatch needs the job queue of the tasks'
            }
            if (!params.aws_bucket && !workDir.startsWith('s3://')) {
                faults << 'parameter --aws_bucket: missing, -profile awsbatch needs s3://BUCKET/PREFIX for the work directory'
            }
            if (params.mode == 'train' && !Checkpoints.isUri(checkpoints)) {
                String expected = 'a URI that every task can reach: give --outdir or --checkpoint_dir as s3://…'
                faults << "checkpoint directory: found '${checkpoints}', expected ${expected}".toString()
            }
        }
        if ('k8s' in chosen) {
            if (!params.k8s_claim) {
                faults << 'parameter --k8s_claim: missing, -profile k8s needs the volume claim that every task mounts'
            }
            Map places = ['checkout': projectDir, 'work directory': workDir] + (params.mode == 'train' ? ['checkpoint directory': checkpoints] : [:])
            places.each { name, place ->
                if (!place.contains('://') && !place.startsWith("${params.k8s_mount}/")) {
                    faults << "${name}: found '${place}', expected a place below --k8s_mount ${params.k8s_mount}".toString()
                }
            }
        }
        return faults
    }

    /** Where the tasks' directories lie, as a URI or an absolute path: -bucket-dir where it is given, else the work directory. */
    static String tasks(Object workDir) {
        return ((Global.session?.bucketDir ?: workDir) as Path).toUriString()
    }
}
