#!/usr/bin/env python3
"""Judge synthetic CTs by dose: a plan is optimised on the CT, and its fluence calculated anew on each sCT.

For photons and protons: MAE of the dose (part of the prescription), the challenge's DVH metric, the gamma pass rate
(%), and for protons the shift of the range (mm, above 0: farther on the sCT). Without --target the plan treats a
standard ellipsoid where the body is thickest. The CT may lie on a grid of its own; it is not registered.
"""

import sys
from pathlib import Path

import click
import SimpleITK as sitk

from synthct.core import settings as presets
from synthct.core.cli import FILE, OUT, VOLUME, cpu_threads, tool
from synthct.core.errors import InputError, PairError
from synthct.core.files import plain, write_json
from synthct.core.records import KIND
from synthct.dose.case import about, compare, plan_case
from synthct.dose.density import read_table
from synthct.dose.outputs import write_doses, write_slices
from synthct.dose.plan import BEAMS
from synthct.images.bodymask import body_mask
from synthct.images.grid import Volume
from synthct.images.volume import is_drawn, read_mask, read_volume


@tool("dose.py", help=__doc__)
@click.option("--ct", required=True, type=VOLUME, help="CT, HU: the plan is made on it")
@click.option(
    "--sct", "scts", required=True, multiple=True, type=VOLUME, help="synthetic CT, HU; several, one --out each"
)
@click.option(
    "--mask",
    type=VOLUME,
    help="body mask, inside > 0: what counts as patient in both images  [default: made from the CT]",
)
@click.option(
    "--target", type=VOLUME, help="what to treat, inside > 0, or an RTSTRUCT or SEG  [default: the standard ellipsoid]"
)
@click.option("--target-roi", help="the region of an RTSTRUCT or SEG that is treated  [default: the only PTV]")
@click.option("--structures", type=VOLUME, help="organs: a label map, each value above 0 one, or an RTSTRUCT or SEG")
@click.option("--beams", default="photon,proton", help="kinds of beam, a comma list")
@click.option("--region", default="", help="region name, for settings that depend on it")
@click.option("--preset", default="paper", help="settings: a preset's name or a TOML file")
@click.option("--settings", "settings_file", type=FILE, help="settings: a resolved file, instead of --preset")
@click.option("--set", "overrides", multiple=True, help="dose.key=value, over the preset")
@click.option("--hu-table", "tables", multiple=True, help="photon=CSV or proton=CSV: your scanner's HU,value table")
@click.option("--patient", default="", help="name written into the result")
@click.option("--trained-on", "trained", multiple=True, help="registration that made each model, one a --sct")
@click.option("--tested-on", default="", help="registration that made this image pair, written into the result")
@click.option("--checkpoint", "checkpoints", multiple=True, help="best or final, one a --sct")
@click.option("--record-failure", is_flag=True, help="a patient that cannot be planned on is said in --out alone")
@click.option("--doses", type=OUT, help="directory for the doses: MHA, and DICOM RT Dose")
@click.option("--slices", multiple=True, type=OUT, help="npz of small slices for the report, one a --sct")
@click.option("--out", "outs", required=True, multiple=True, type=OUT, help="JSON file to write, one a --sct")
def main(ct, scts, mask, target, structures, beams, region, preset, settings_file, overrides, tables, **asked):
    outs, slices = asked["outs"], asked["slices"]
    for name in ("outs", "trained", "checkpoints", "slices"):
        if asked[name] and len(asked[name]) != len(scts):
            option = {"outs": "out", "trained": "trained-on", "checkpoints": "checkpoint"}.get(name, name)
            raise InputError(f"--{option}: given {len(asked[name])} times, expected one for each of {len(scts)} --sct")
    kinds = _kinds(beams)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(cpu_threads())
    section = presets.section("dose", settings=settings_file, preset=preset, modality="mr", overrides=overrides)
    section = _with_tables(presets.for_region(section, region), tables)
    names = [
        {
            KIND: "dose",
            "patient": asked["patient"],
            "region": region,
            "trained_on": asked["trained"][i] if asked["trained"] else "",
            "tested_on": asked["tested_on"],
            "checkpoint": asked["checkpoints"][i] if asked["checkpoints"] else "",
        }
        for i in range(len(scts))
    ]
    planned_on = read_volume(ct, "CT", "ct")
    aim, aim_name = _target(target, asked["target_roi"], planned_on)
    try:
        case = plan_case(
            planned_on,
            _mask(mask, planned_on),
            section,
            beams=kinds,
            target=aim,
            target_name=aim_name,
            structures=_organs(structures, planned_on, aim_name),
        )
    except PairError as fault:
        if not asked["record_failure"]:
            raise
        print(f"dose.py: not planned: {fault}", file=sys.stderr)
        for name, out in zip(names, outs, strict=True):
            write_json(out, plain({**name, "failed": str(fault)}))
        return
    planned = about(case)
    for number, (name, sct, out) in enumerate(zip(names, scts, outs, strict=True)):
        record, doses = compare(case, read_volume(sct, "sCT", "ct"))
        if asked["doses"]:
            write_doses(case, doses, asked["doses"], ct, Path(out).stem, first=number == 0)
        if slices:
            write_slices(slices[number], case, doses, name)
        write_json(out, plain({**name, **planned, **record}))


def _mask(path: str | None, ct: Volume) -> Volume:
    if not path:
        return body_mask(ct, "ct")
    return read_mask(path, ct.grid) if is_drawn(path) else read_volume(path, "mask", "labels")


def _target(path: str | None, roi: str | None, ct: Volume) -> tuple[Volume | None, str]:
    if path and is_drawn(path):
        from synthct.images.dicom.structures import target_of

        return tuple(reversed(target_of(path, ct.grid, roi)))
    if roi:
        raise InputError("--target-roi: goes with --target, an RTSTRUCT or SEG")
    return (read_volume(path, "target", "labels"), Path(path).name) if path else (None, "")


def _organs(path: str | None, ct: Volume, target: str):
    """Organs of a label map, or the regions of a DICOM file but the target."""
    if path and is_drawn(path):
        from synthct.images.dicom.structures import drawn

        return ((name, mask) for name, mask in drawn(path, ct.grid) if name != target)
    return read_volume(path, "structures", "labels") if path else None


def _kinds(text: str) -> list[str]:
    kinds = [each.strip() for each in text.split(",") if each.strip()]
    if not kinds or not set(kinds) <= set(BEAMS) or len(set(kinds)) < len(kinds):
        raise InputError(f"--beams {text!r}: expected {' or '.join(BEAMS)}, or both with a comma")
    return kinds


def _with_tables(section: dict, tables) -> dict:
    for given in tables:
        kind, _, path = given.partition("=")
        if kind not in BEAMS or not Path(path).is_file():
            raise InputError(f"--hu-table {given}: expected photon=FILE or proton=FILE, a CSV that is there")
        section[kind] = {**section[kind], "hu_table": read_table(path)}
    return section


if __name__ == "__main__":
    main()
