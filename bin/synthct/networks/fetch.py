"""Getting the weights of published networks, and knowing later that they are still the same.

A directory of weights is a local path or any URI that fsspec knows (s3://, gs://, abfs://). What was fetched stands in
its ``weights.json``: address, SHA-256, and for a zip, which is unpacked and thrown away, that of each file in it. Where
the table of networks has no digest, that of the first download is the one that every later one must have.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import fsspec
import pooch
import requests
from tqdm import tqdm

from synthct.core.errors import InputError
from synthct.core.files import atomic_directory, out_of_room, write_json
from synthct.networks.weights import PATTERNS, Need, Network, by_network, listing

RECORD = "weights.json"
CHUNK = 1 << 20
TIMEOUT = 30  # seconds without a byte
CHECKPOINT = "fold_0/checkpoint_final.pth"


class Store:
    """A directory of weights, local or in an object store."""

    def __init__(self, place: str):
        try:
            self.files, self.directory = fsspec.core.url_to_fs(str(place))
        except Exception as fault:  # every store raises its own kinds; all mean that the place cannot be used
            raise InputError(f"weights {place}: cannot be used ({_line(fault)})") from None
        self.place, self.local = str(place), "file" in self.files.protocol

    def path(self, name: str) -> str:
        """Where a file of this name lies, as its file system names it."""
        return f"{self.directory.rstrip('/')}/{name}"

    def names(self) -> list[str]:
        """What may be weights, as names relative to the directory."""
        if self.local:
            return listing(Path(self.directory))
        self.files.invalidate_cache()
        found = [path for pattern in PATTERNS for path in self.files.glob(self.path(pattern))]
        return sorted({str(path).removeprefix(self.path("")) for path in found})

    def record(self) -> dict[str, dict]:
        """What ``weights.json`` says, by network; {} where there is none."""
        if not self.files.exists(self.path(RECORD)):
            return {}
        try:
            return json.loads(self.files.cat_file(self.path(RECORD)))
        except ValueError as fault:
            raise InputError(f"{self.path(RECORD)}: no record of weights ({fault})") from None

    def write_record(self, record: dict):
        """Replace ``weights.json``."""
        if self.local:
            write_json(self.path(RECORD), record)
        else:
            self.files.pipe_file(self.path(RECORD), json.dumps(record, indent=2).encode())

    def sha256(self, name: str) -> str:
        """SHA-256 of a file, in hexadecimal."""
        digest = hashlib.sha256()
        with self.files.open(self.path(name), "rb") as file:
            while block := file.read(CHUNK):
                digest.update(block)
        return digest.hexdigest()


def fetch(needs: Iterable[Need], place: str, *, base_url: str = "", say: Callable[[str], None] = print):
    """Download what of `needs` is not in `place` yet; `base_url` is a mirror that holds the files by their names.

    A download that breaks off goes on where it stopped when the same is asked for again (where the server can do that,
    and still has the same file), and no file has its own name before it is whole and its digest is the expected one.
    Raises `InputError` for no connection, a wrong digest, no room, a place that cannot be written.
    """
    pooch.get_logger().setLevel("WARNING")
    store = Store(place)
    for need in needs:
        network = need.network
        if found := need.among(store.names()):
            say(f"{network.name}: is there ({found})")
            continue
        if not network.url:
            raise InputError(f"{network.name}: not among the published networks, nothing to fetch it from")
        url = f"{base_url.rstrip('/')}/{PurePosixPath(network.url).name}" if base_url else network.url
        record = store.record()
        with _told_plainly(network, url, place):
            made = _fetch(network, url, store, record.get(network.name, {}).get("sha256", ""))
            store.write_record(record | {network.name: made})
        say(f"{network.name}: fetched, SHA-256 {made['sha256'][:16]}…")


def inventory(needs: list[Need], place: str) -> list[tuple[str, ...]]:
    """A line for each network: name, whether it is there, size, licence, what for, address."""
    names = Store(place).names()
    lines: list[tuple[str, ...]] = []
    for network, uses in by_network(needs):
        need = next(need for need in needs if need.network == network)
        size = f"{network.size / 1e6:.0f} MB" if network.size else "size unknown"
        there = f"there: {need.among(names)}" if need.among(names) else "absent"
        lines.append((network.name, there, size, network.licence or "-", ", ".join(uses), network.url or "-"))
    return lines


def verify(needs: Iterable[Need], place: str) -> dict[str, str]:
    """What is wrong with each of `needs` in `place`, by name ("" for nothing): absent, changed, never recorded."""
    store = Store(place)
    record, names = store.record(), store.names()
    return {need.network.name: _fault(need, store, record.get(need.network.name, {}), names) for need in needs}


def _fault(need: Need, store: Store, recorded: dict, names: list[str]) -> str:
    network, found = need.network, need.among(names)
    if not found:
        return "is not there"
    files = recorded.get("files") or ({found: network.sha256} if network.sha256 else {})
    if found not in files:
        return f"{found} has no digest to compare with: neither published nor in {RECORD}"
    for name, expected in files.items():
        if not store.files.exists(store.path(name)):
            return f"{name} is not there"
        if (digest := store.sha256(name)) != expected:
            return f"{name} has SHA-256 {digest[:16]}…, expected {expected[:16]}…"
    return ""


def _fetch(network: Network, url: str, store: Store, recorded: str) -> dict:
    """Download one network; returns its row of the record."""
    known = network.sha256 or recorded
    with contextlib.ExitStack() as stack:
        if store.local:
            root = Path(store.directory)
            root.mkdir(parents=True, exist_ok=True)
        else:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        name = PurePosixPath(url).name
        file = Path(
            pooch.retrieve(
                url,
                f"sha256:{known}" if known else None,
                fname=f".{name}.whole" if network.archive else name,
                path=root,
                downloader=Resumed(root / f".{name}.part", network.size),
            )
        )
        digest = known or pooch.file_hash(str(file))
        if network.archive:
            try:
                _unpack(file, network, root)
            finally:
                file.unlink(missing_ok=True)
            files = sorted(path for path in (root / network.file).rglob("*") if path.is_file())
        else:
            files = [file]
        inside = {path.relative_to(root).as_posix(): pooch.file_hash(str(path)) for path in files}
        if not store.local:
            for path in sorted(files, key=lambda path: path.name == Path(CHECKPOINT).name):  # what counts comes last
                store.files.put_file(str(path), store.path(path.relative_to(root).as_posix()))
    return {"url": url, "sha256": digest, "files": inside}


class Resumed:
    """A downloader for pooch that goes on from what an interrupted one left at `part`.

    The server's ETag is kept beside it: where the file has become another since, everything is fetched anew.
    """

    def __init__(self, part: Path, size: int = 0):
        self.part, self.tag, self.size = part, part.with_suffix(".etag"), size

    def __call__(self, url: str, output_file: str, _pooch, check_only: bool = False):
        """Fetch `url` into `output_file`."""
        with open(self.part, "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(f"{url}: another download into {self.part.parent} is under way") from None
            try:
                if not self._continue(url, file):
                    self.tag.unlink()
                    self._continue(url, file)
            finally:
                if not file.tell():  # nothing to go on from
                    self.part.unlink()
                    self.tag.unlink(missing_ok=True)
        os.replace(self.part, output_file)
        self.tag.unlink(missing_ok=True)

    def _continue(self, url: str, file) -> bool:
        """Append what `file` lacks, or write it anew; False where the server has nothing beyond its end."""
        there, headers = file.tell(), {}
        if there and self.tag.is_file():
            headers = {"Range": f"bytes={there}-", "If-Range": self.tag.read_text()}
        with requests.get(url, stream=True, timeout=TIMEOUT, headers=headers) as response:
            if headers and response.status_code == requests.codes.requested_range_not_satisfiable:
                return False
            response.raise_for_status()
            if response.status_code != requests.codes.partial_content:
                file.truncate(0)
                there = 0
            left = int(response.headers.get("Content-Length") or max(0, self.size - there))
            free = shutil.disk_usage(self.part.parent).free
            if left > free:
                raise OSError(errno.ENOSPC, f"{left / 2**20:.0f} MiB left to fetch, {free / 2**20:.0f} MiB free")
            self.tag.unlink(missing_ok=True)
            if tag := response.headers.get("ETag"):
                self.tag.write_text(tag)
            with tqdm(total=there + left or None, initial=there, unit="B", unit_scale=True, disable=None) as bar:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
        return True


def _unpack(archive: Path, network: Network, root: Path):
    """Unpack a trained nnU-Net as TotalSegmentator keeps it: the directory `network.file`, which appears whole."""
    try:
        with zipfile.ZipFile(archive) as file:
            inside = [name for name in file.namelist() if not name.endswith("/")]
            foreign = [name for name in inside if not name.startswith(f"{network.file}/") or ".." in name.split("/")]
            if foreign or not any(name.endswith(CHECKPOINT) for name in inside):
                found = foreign[0] if foreign else "no checkpoint"
                raise InputError(f"{network.name}: {found} in the zip, expected {network.file}/*/{CHECKPOINT}")
            with atomic_directory(root / network.file, lambda _: False) as made:
                file.extractall(made)
                for path in (made / network.file).iterdir():
                    os.replace(path, made / path.name)
                (made / network.file).rmdir()
    except zipfile.BadZipFile as fault:
        raise InputError(f"{network.name}: the zip is damaged ({fault})") from None


@contextlib.contextmanager
def _told_plainly(network: Network, url: str, place: str):
    """What can go wrong on the way, each as one line."""
    again = "run the same again to go on where it stopped"
    try:
        yield
    except requests.HTTPError as fault:
        answer = fault.response
        said = f"{answer.status_code} {answer.reason}" if answer is not None else _line(fault)
        raise InputError(f"{network.name}: {url} answers {said}") from None
    except requests.exceptions.ChunkedEncodingError:
        raise InputError(f"{network.name}: the connection to {url} broke off; {again}") from None
    except requests.RequestException as fault:
        raise InputError(f"{network.name}: {url} cannot be reached ({_line(fault)}); {again}") from None
    except ValueError as fault:  # of pooch, for a digest
        said = _line(fault).partition(". Deleted")[0]
        raise InputError(f"{network.name}: {url} is not the expected file, thrown away ({said})") from None
    except OSError as fault:
        what = "no room" if out_of_room(fault) else "cannot be written"
        raise InputError(f"{network.name}: weights {place}: {what} ({fault.strerror or _line(fault)})") from None


def _line(fault: BaseException) -> str:
    inner = fault.args[0] if fault.args and isinstance(fault.args[0], BaseException) else fault
    inner = str(getattr(inner, "reason", None) or inner)
    return " ".join(inner.rpartition("): ")[2].split())[:200]  # without the connection's own description of itself
