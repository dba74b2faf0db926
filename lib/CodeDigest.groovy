import java.nio.file.Files
import java.nio.file.Path
import java.security.MessageDigest

/**
 * Digest of a tool in bin/ and of every module of bin/synthct/ that it imports, directly or through another.
 *
 * The engine hashes the tool but not what the tool imports, so an edit to the package would go unnoticed by -resume.
 * Each process names this digest in its script: an edit to a module re-runs the steps that import it, and only those.
 */
class CodeDigest {

    private static final Map<String, String> KNOWN = [:].asSynchronized()
    private static final Map<Path, List<Path>> READ = [:].asSynchronized() // what a file imports: most are imported by many tools
    private static final String NAME = /[A-Za-z_][A-Za-z0-9_]*/

    /** First 16 hex digits of the SHA-256 over the tool's and its modules' contents, in order of their names. */
    static String of(Object projectDir, String tool) {
        return KNOWN.computeIfAbsent("${projectDir}/${tool}" as String) {
            Path bin = (projectDir as Path).resolve('bin')
            digest(bin, sources(bin, tool))
        }
    }

    /** The same over main.nf, the workflows, modules and classes: the order of the steps and how their tools are called. */
    static String ofWorkflow(Path projectDir) {
        Set<Path> scripts = [projectDir.resolve('main.nf')] as LinkedHashSet
        ['workflows', 'modules', 'lib'].each { name ->
            projectDir.resolve(name).toFile().eachFileRecurse { file ->
                if (file.name.endsWith('.nf') || file.name.endsWith('.groovy')) {
                    scripts << file.toPath()
                }
            }
        }
        return digest(projectDir, scripts)
    }

    private static String digest(Path base, Collection<Path> files) {
        def digest = MessageDigest.getInstance('SHA-256')
        files.sort { path -> base.relativize(path).toString() }.each { path ->
            digest.update(base.relativize(path).toString().getBytes('UTF-8'))
            digest.update(Files.readAllBytes(path))
        }
        return digest.digest().encodeHex().toString().substring(0, 16)
    }

    /** The tool and its modules; the files beside a module that it loads (templates) belong to its package's digest. */
    static Set<Path> sources(Path bin, String tool) {
        Set<Path> found = [] as LinkedHashSet
        List<Path> open = [bin.resolve(tool)]
        while (open) {
            Path path = open.remove(0)
            if (!found.add(path)) {
                continue
            }
            if (path.toString().endsWith('.py')) {
                open.addAll(READ.computeIfAbsent(path) { source -> imports(bin, source) })
            }
        }
        return found
    }

    private static List<Path> imports(Path bin, Path source) {
        List<Path> result = []
        // continued lines and parenthesised lists are joined first, comments dropped
        String text = source.text.replaceAll(/(?m)#.*$/, '').replaceAll(/\\\n/, ' ')
        (text =~ /(?m)^\s*from\s+(synthct(?:\.${NAME})*)\s+import\s+(\([^)]*\)|[^\n]*)/).each { whole, module, names ->
            result.addAll(modules(bin, module as String))
            (names as String).replaceAll(/[()]/, '').split(',').each { name ->
                result.addAll(modules(bin, "${module}.${name.trim().split(/\s+/)[0]}"))
            }
        }
        (text =~ /(?m)^\s*import\s+(synthct(?:\.${NAME})+)/).each { whole, module ->
            result.addAll(modules(bin, module as String))
        }
        return result
    }

    /** The file of a dotted module, the __init__ of every package on the way, and a package's data files. */
    private static List<Path> modules(Path bin, String dotted) {
        List<Path> result = []
        List<String> parts = dotted.tokenize('.')
        (1..parts.size()).each { count ->
            Path base = bin.resolve(parts.take(count).join('/'))
            Path init = base.resolve('__init__.py')
            Path file = base.resolveSibling("${base.fileName}.py")
            if (Files.exists(init)) {
                result << init
                if (count > 1) {
                    base.toFile().listFiles().findAll { it.file && !(it.name ==~ /.*\.pyc?/) }.each { result << it.toPath() }
                }
            }
            else if (Files.exists(file)) {
                result << file
            }
        }
        return result
    }
}
