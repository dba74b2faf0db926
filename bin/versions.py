#!/usr/bin/env python3
"""Write which code, which Python and which packages a step ran with, as versions.yml."""

import platform
from importlib import metadata

import click

from synthct import __version__
from synthct.core.cli import OUT, tool
from synthct.core.errors import InputError
from synthct.core.files import write_text


@tool("versions.py", help=__doc__)
@click.option("--process", required=True, help="name of the step")
@click.option("--code", default="", help="digest of the step's code, which goes behind the version: 0.1.0+DIGEST")
@click.option("--out", default="versions.yml", type=OUT)
@click.argument("packages", nargs=-1)
def main(process, code, out, packages):
    found = {"synthct": f"{__version__}+{code}" if code else __version__, "python": platform.python_version()}
    try:
        found |= {package: metadata.version(package) for package in packages}
    except metadata.PackageNotFoundError as fault:
        raise InputError(f"package {fault.name}: not installed here") from None
    lines = [f'"{process}":'] + [f"    {name}: {version}" for name, version in found.items()]
    write_text(out, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
