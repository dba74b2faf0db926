import java.nio.file.FileAlreadyExistsException
import java.nio.file.Files
import java.nio.file.NoSuchFileException
import java.nio.file.Path
import java.nio.file.StandardOpenOption
import java.time.Instant
import nextflow.Nextflow

/**
 * One run at a time in an --outdir: OUTDIR/pipeline_info/run.lock names the machine, the process and its start.
 *
 * A lock is left over where its process is dead (same machine), or where it was not touched for STALE (another machine,
 * whose processes cannot be asked; a run touches its own every BEAT). On object stores, which cannot create a file only where
 * there is none, two runs that start in the same second may both begin.
 */
class OutdirLock {

    private static final long BEAT = 30_000L
    private static final long STALE = 600_000L

    /** Take `outdir` for this process until it ends; the fault in one line where it cannot be had, else null. */
    static String take(Object outdir) {
        Path lock = (Nextflow.file(outdir.toString()) as Path).resolve('pipeline_info/run.lock')
        String mine = "host=${machine()} pid=${ProcessHandle.current().pid()} start=${start(ProcessHandle.current())} token=${UUID.randomUUID()}"
        try {
            Files.createDirectories(lock.parent)
            String held = held(lock)
            if (held) {
                return "parameter --outdir: found '${outdir}', in which another run is at work (${held}); wait for its end, or name another --outdir".toString()
            }
            Files.write(lock, mine.bytes, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)
            if (lock.text != mine) { // another took the same left-over lock away, and this one's with it
                return "parameter --outdir: found '${outdir}', in which another run has started at this moment".toString()
            }
        }
        catch (FileAlreadyExistsException _fault) {
            return "parameter --outdir: found '${outdir}', in which another run has started at this moment".toString()
        }
        catch (IOException fault) {
            return "parameter --outdir: found '${outdir}', expected a directory that can be written (${fault.class.simpleName} ${fault.message})".toString()
        }
        beat(lock, mine)
        Runtime.runtime.addShutdownHook(new Thread({ drop(lock, mine) }))
        return null
    }

    /** Who holds the lock, as a person would say it; null where nobody does, and a left-over lock is then taken away. */
    private static String held(Path lock) {
        String text = ''
        Instant touched = Instant.now()
        try {
            text = lock.text
            touched = Files.getLastModifiedTime(lock).toInstant()
        }
        catch (NoSuchFileException | FileNotFoundException _fault) {
            return null
        }
        Map<String, String> told = text.tokenize(' ').findAll { it.contains('=') }.collectEntries { it.split('=', 2) as List }
        boolean alive
        if (told.host == machine() && told.pid?.isLong()) {
            alive = ProcessHandle.of(told.pid as long).filter { it.alive && start(it) == told.start }.isPresent()
        }
        else {
            alive = touched.plusMillis(STALE).isAfter(Instant.now())
        }
        if (alive) {
            String host = told.host?.tokenize('/')?.first() ?: 'an unknown machine'
            return "on ${host}, process ${told.pid}, since ${told.start}; its lock is ${lock.toUriString()}"
        }
        Files.deleteIfExists(lock)
        return null
    }

    private static void beat(Path lock, String mine) {
        Thread.startDaemon {
            while (true) {
                Thread.sleep(BEAT)
                try {
                    if (lock.text == mine) {
                        Files.write(lock, mine.bytes)
                    }
                }
                catch (IOException _fault) {
                    // a disk that is full or away for a while: the run goes on, and the next beat may reach it
                }
            }
        }
    }

    private static void drop(Path lock, String mine) {
        try {
            if (lock.text == mine) {
                Files.deleteIfExists(lock)
            }
        }
        catch (IOException _fault) {
            // left over, and known as such by the next run
        }
    }

    private static String start(ProcessHandle process) {
        return process.info().startInstant().map { it.toString() }.orElse('unknown')
    }

    /** This machine, and in it the container: process numbers mean something there alone. */
    private static String machine() {
        String name = System.getenv('HOSTNAME') ?: InetAddress.localHost.hostName
        Path space = Path.of('/proc/self/ns/pid')
        return "${name}/${Files.exists(space) ? Files.readSymbolicLink(space) : ''}".toString().replace(' ', '')
    }
}
