"""Objects sent to a DICOM server (C-STORE), over an association of one's own."""

import re
from pathlib import Path

from synthct.core.errors import InputError
from synthct.images.dicom.headers import read_header

OURS = "SYNTHCT"  # our title, for servers that ask who calls


def address(given: str) -> tuple[str, int, str]:
    """Host, port and title of ``HOST:PORT:AET``. Raises `InputError` where it is none."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^:\s]+):(\d{1,5}):([^:\\]{1,16})", given.strip())
    if not match or not 0 < int(match[2]) < 65536:
        raise InputError(f"--send {given!r}: expected HOST:PORT:AET, such as pacs.example.org:104:ARCHIVE")
    return match[1].strip("[]"), int(match[2]), match[3].strip()


def send(files: list[Path], given: str):
    """Store `files` at the server ``HOST:PORT:AET``; all or an `InputError` that says how far it came."""
    from pynetdicom import AE  # only where something is sent

    host, port, title = address(given)
    data = [read_header(file, pixels=True) for file in files]
    entity = AE(ae_title=OURS)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = 30
    for kind, syntax in sorted({(one.SOPClassUID, one.file_meta.TransferSyntaxUID) for one in data}):
        entity.add_requested_context(kind, syntax)
    association = entity.associate(host, port, ae_title=title)
    if not association.is_established:
        raise InputError(f"--send {given}: no association, is a server of that title listening there?")
    try:
        for number, one in enumerate(data):
            try:
                status = association.send_c_store(one).get("Status")
            except (RuntimeError, ValueError) as fault:
                raise InputError(f"--send {given}: stopped after {number} of {len(data)} objects ({fault})") from None
            if status is None or (status != 0 and not 0xB000 <= status < 0xC000):
                shown = "no answer" if status is None else f"status 0x{status:04X}"
                raise InputError(f"--send {given}: refused after {number} of {len(data)} objects ({shown})")
    finally:
        if association.is_established:
            association.release()
