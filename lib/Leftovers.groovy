import groovy.json.JsonSlurper
import java.nio.file.Files
import java.nio.file.Path
import nextflow.Nextflow

/**
 * What an earlier run left in an --outdir and somebody may take for a result of this one: the sCT of a patient who has left
 * the sheet since, or whose image cannot be predicted any more. Nothing is deleted; it is said.
 */
class Leftovers {

    private static final int NAMED = 3

    /** A line for the end of a run, or null where the run's provenance names every sCT in `outdir`. */
    static String text(Object outdir) {
        Path place = Nextflow.file(outdir.toString()) as Path
        Path crate = place.resolve('ro-crate-metadata.json')
        if (!Files.exists(crate) || !Files.isDirectory(place.resolve('sct'))) {
            return null
        }
        Set<String> told = new JsonSlurper().parseText(crate.text)['@graph'].collect { entity -> unquoted(entity['@id']) } as Set
        // of "best,final" the provenance names the first alone, of which the other has every patient
        List<String> old = scts(place).findAll { name -> !(name in told) && !(name.replaceFirst('/(best|final)/', '/') in told) }
        if (!old) {
            return null
        }
        String more = old.size() > NAMED ? " and ${old.size() - NAMED} more" : ''
        String names = old.take(NAMED).join(', ') + more
        return "${outdir} holds sCTs of an earlier run, which this one did not make: ${names}; delete what is out of date".toString()
    }

    /** Names, relative to `place`, of its sCTs and uncertainty maps. */
    private static List<String> scts(Path place) {
        def walk = Files.walk(place.resolve('sct'))
        try {
            return walk.iterator().collect { place.relativize(it).toString() }
                .findAll { name -> name.endsWith('.mha') && !name.contains('/masks/') }.sort()
        }
        finally {
            walk.close()
        }
    }

    private static String unquoted(String name) {
        return URLDecoder.decode(name.replace('+', '%2B'), 'UTF-8')
    }
}
