import java.nio.file.Files
import java.nio.file.Path
import java.security.MessageDigest

/** What predict mode needs to know of the bundle it was given. */
class Bundles {

    /** The directory's name as results are filed under it: what is no letter, digit, '_', '.' or '-' becomes '_'. */
    static String name(Path bundle) {
        return bundle.fileName.toString().replaceAll(/[^A-Za-z0-9_.-]|^[^A-Za-z0-9]/, '_')
    }

    /** SHA-256 of bundle.json, which names every weight by its own, and of what known patients teach: a bundle changed in place is another input. */
    static String digest(Path bundle) {
        def digest = MessageDigest.getInstance('SHA-256')
        ['bundle.json', 'trust.json'].collect { bundle.resolve(it) }.findAll { Files.exists(it) }.each { digest.update(Files.readAllBytes(it)) }
        return digest.digest().encodeHex().toString()
    }
}
