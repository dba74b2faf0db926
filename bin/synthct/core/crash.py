"""What is left of an exception that nobody foresaw: a log that may be sent to the authors, and one line about it.

The log tells where in the code it happened and with which versions. What patients are called does not go into it:
values of options, quoted texts, paths and numbers of an exception's message are left out.
"""

import os
import platform
import re
import sys
import tempfile
import traceback
from pathlib import Path

from synthct import __version__

SHOWN = "SYNTHCT_TRACEBACK"  # environment: set, the exception is raised as it is, for whoever works on the code
NAMES = re.compile(r"""'[^']*'|"[^"]*"|\S*[/\\]\S*|\^\S+|\d+""")
PACKAGES = ("numpy", "scipy", "torch", "SimpleITK", "pydicom", "click")


def leave_log(name: str, fault: BaseException, arguments=()) -> str:
    """Write the log of `fault` in tool `name` into the working directory, else a temporary one; returns its path."""
    text = "\n".join(
        [
            f"{name}, synthct {__version__}, Python {platform.python_version()}, {platform.system()}",
            ", ".join(f"{each} {sys.modules[each].__version__}" for each in PACKAGES if each in sys.modules),
            "options: " + " ".join(each.split("=")[0] for each in map(str, arguments) if each.startswith("--")),
            "",
            *_frames(fault),
        ]
    )
    for place in (Path.cwd(), Path(tempfile.gettempdir())):
        log = place / f"synthct-{name.removesuffix('.py')}-{os.getpid()}.log"
        try:
            log.write_text(text + "\n", encoding="utf-8")
        except OSError:
            continue
        return str(log)
    return "nowhere (no directory to write it in)"


def _frames(fault: BaseException) -> list[str]:
    lines, seen = [], set()
    while fault is not None and id(fault) not in seen:
        seen.add(id(fault))
        for frame in traceback.extract_tb(fault.__traceback__):
            place = "/".join(Path(frame.filename).parts[-3:])
            lines.append(f"{place}, line {frame.lineno}, in {frame.name}: {frame.line or ''}")
        lines.append(f"{type(fault).__name__}: {NAMES.sub('…', str(fault))[:500]}")
        fault = fault.__cause__ or fault.__context__
        lines += ["after:"] if fault is not None else []
    return lines
