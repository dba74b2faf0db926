"""The options of dose.py, and what some of them say."""

from collections.abc import Sequence
from pathlib import Path

import click

from synthct.core.cli import OUT, VOLUME, options, settings_options
from synthct.core.errors import InputError
from synthct.dose.density import read_table
from synthct.dose.plan import BEAMS

dose_options = options(
    click.option("--ct", required=True, type=VOLUME, help="CT, HU: the plan is made on it"),
    click.option(
        "--sct", "scts", required=True, multiple=True, type=VOLUME, help="synthetic CT, HU; several, one --out each"
    ),
    click.option(
        "--members",
        multiple=True,
        type=VOLUME,
        help="directory of predict.py --members, one a --sct: the plan on the sCT of each network as well",
    ),
    click.option(
        "--mask",
        type=VOLUME,
        help="body mask, inside > 0: what counts as patient in both images  [default: made from the CT]",
    ),
    click.option(
        "--target",
        type=VOLUME,
        help="what to treat, inside > 0, or an RTSTRUCT or SEG  [default: the standard ellipsoid]",
    ),
    click.option("--target-roi", help="the region of an RTSTRUCT or SEG that is treated  [default: the only PTV]"),
    click.option(
        "--structures", type=VOLUME, help="organs: a label map, each value above 0 one, or an RTSTRUCT or SEG"
    ),
    click.option("--beams", default="photon,proton", help="kinds of beam, a comma list"),
    click.option("--region", default="", help="region name, for settings that depend on it"),
    settings_options("dose.key=value"),
    click.option("--hu-table", "tables", multiple=True, help="photon=CSV or proton=CSV: your scanner's HU,value table"),
    click.option("--patient", default="", help="name written into the result"),
    click.option("--trained-on", "trained", multiple=True, help="registration that made each model, one a --sct"),
    click.option("--tested-on", default="", help="registration that made this image pair, written into the result"),
    click.option("--checkpoint", "checkpoints", multiple=True, help="best or final, one a --sct"),
    click.option(
        "--record-failure", is_flag=True, help="a patient or synthetic CT that cannot be judged is said in --out alone"
    ),
    click.option("--doses", type=OUT, help="directory for the doses: MHA, and DICOM RT Dose"),
    click.option("--slices", multiple=True, type=OUT, help="npz of small slices for the report, one a --sct"),
    click.option("--out", "outs", required=True, multiple=True, type=OUT, help="JSON file to write, one a --sct"),
)


def require_one_each(number: int, options: dict[str, tuple]):
    """`InputError` unless each of `options` ({name of the option: its values}) is given for each of `number` sCTs, or
    not at all."""
    for name, values in options.items():
        if values and len(values) != number:
            raise InputError(f"--{name}: given {len(values)} times, expected one for each of {number} --sct")


def require_names(outs: Sequence[str]):
    """`InputError` unless the files that the doses are called by (`outs`, and "ct" for the CT's) all have names of
    their own: --doses is one directory for all."""
    seen = {"ct": ""}
    for out in outs:
        name = Path(out).stem
        if name in seen:
            other = f"as {seen[name]} is" if seen[name] else "as the dose on the CT is"
            raise InputError(
                f"--out {out}: with --doses its doses would be called {name!r}, {other}; give another name"
            )
        seen[name] = out


def kinds_of(text: str) -> list[str]:
    """The kinds of beam that a comma list names."""
    kinds = [each.strip() for each in text.split(",") if each.strip()]
    if not kinds or not set(kinds) <= set(BEAMS) or len(set(kinds)) < len(kinds):
        raise InputError(f"--beams {text!r}: expected {' or '.join(BEAMS)}, or both with a comma")
    return kinds


def with_tables(section: dict, tables) -> dict:
    """`section` of a preset with the HU tables that --hu-table gives."""
    for given in tables:
        kind, _, path = given.partition("=")
        if kind not in BEAMS or not Path(path).is_file():
            raise InputError(f"--hu-table {given}: expected photon=FILE or proton=FILE, a CSV that is there")
        section[kind] = {**section[kind], "hu_table": read_table(path)}
    return section
