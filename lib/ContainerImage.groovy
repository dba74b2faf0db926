import java.nio.file.Files
import java.nio.file.Path
import java.security.MessageDigest

/**
 * The name of a step's image: PREFIX/STEP:TAG, where TAG follows from what the image is made of (containers/STEP), so that
 * an edit there asks for a new image and re-runs the step. containers/build gives the images the same names.
 */
class ContainerImage {

    private static final Map<String, String> KNOWN = [:].asSynchronized()

    static String of(Object projectDir, Object registry, String step) {
        Path containers = (projectDir as Path).resolve('containers')
        return "${registry}/${step}:${KNOWN.computeIfAbsent("${containers}/${step}" as String) { tag(containers, step) }}"
    }

    /** First 12 hex digits of the SHA-256 of the parent's tag (an outside parent's name), the Dockerfile and the packages. */
    private static String tag(Path containers, String image) {
        Path directory = containers.resolve(image)
        byte[] dockerfile = Files.readAllBytes(directory.resolve('Dockerfile'))
        String parent = (new String(dockerfile, 'UTF-8') =~ /(?m)^ARG BASE_IMAGE=(\S+)$/)[0][1]
        def digest = MessageDigest.getInstance('SHA-256')
        digest.update((Files.exists(containers.resolve(parent).resolve('Dockerfile')) ? tag(containers, parent) : parent).getBytes('UTF-8'))
        digest.update(dockerfile)
        digest.update(Files.readAllBytes(directory.resolve('requirements.txt')))
        return digest.digest().encodeHex().toString().substring(0, 12)
    }
}
